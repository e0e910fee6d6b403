package redo

import (
	"errors"
	"slices"

	"github.com/shardlog/shardlog/internal/kv"
)

// Frame is a batch that was read from a ring.
type Frame struct {
	Version uint64
	Ops     []kv.Op // its memory is the callee's
}

// Read calls f with each frame that counts, in order. It ends with f's error, or a
// *shardlog.DamageError if frames were lost that had been written whole: a valid
// frame follows one that is not.
func (r *Ring) Read(f func(Frame) error) error {
	return r.walk(func(h head, at int64, frame []byte) error {
		ops, err := r.decodeFrame(frame, h)
		if err != nil {
			return r.opts.damage(at, "%v", err)
		}
		return f(Frame{h.version, ops})
	})
}

// walk calls f with the bytes of each frame that counts, as Read does. They are f's.
func (r *Ring) walk(f func(h head, at int64, frame []byte) error) error {
	r.mu.Lock()
	at, seq, gen := r.state.at, r.state.seq, r.state.gen
	r.mu.Unlock()
	for ; ; seq++ {
		frame, h, err := r.frameAt(at, gen, seq)
		if errors.Is(err, errFrame) && at != firstFrame {
			// The one before may have been the last that fits.
			if frame, h, err = r.frameAt(firstFrame, gen, seq); err == nil {
				at = firstFrame
			}
		}
		if errors.Is(err, errFrame) {
			return r.nothingBehind(at, gen, seq)
		}
		if err == nil {
			err = f(h, at, frame)
		}
		if err != nil {
			return err
		}
		at += int64(len(frame))
	}
}

// frameAt reads the frame at an offset, whole pages whose checksum is right. The
// error is errFrame if there is none with the number.
func (r *Ring) frameAt(at int64, gen uint32, seq uint64) (frame []byte, h head, err error) {
	if at+Page > r.size {
		return nil, h, errFrame
	}
	b := pages(1)
	if err := r.read(b, at); err != nil {
		return nil, h, err
	}
	h, size, err := r.frameLength(b)
	if err != nil || h.gen != gen || h.seq != seq || at+int64(size) > r.size {
		return nil, h, errFrame
	}
	if size > Page {
		b = pages(size / Page)
		if err := r.read(b, at); err != nil {
			return nil, h, err
		}
	}
	if !sound(b) {
		return nil, h, errFrame
	}
	return b, h, nil
}

// lookPages is how many pages are read in one call to find a frame.
const lookPages = 64

// nothingBehind returns damage if a frame follows the one with the number, which
// is not there: frames are written one after the other.
func (r *Ring) nothingBehind(at int64, gen uint32, seq uint64) error {
	b := pages(lookPages)
	for _, from := range slices.Compact([]int64{at, firstFrame}) {
		end := min(from+MaxFrame+Page, r.size)
		for p := from; p < end; p += Page {
			in := (p - from) % int64(len(b))
			if in == 0 {
				if err := r.read(b[:min(int64(len(b)), end-p)], p); err != nil {
					return err
				}
			}
			h, _, err := r.frameLength(b[in:][:Page])
			if err != nil || h.gen != gen || h.seq <= seq {
				continue
			}
			if _, _, err := r.frameAt(p, gen, h.seq); err == nil {
				return r.opts.damage(at, "frame %d cannot be read there, and frame %d can at %d", seq, h.seq, p)
			}
		}
	}
	return nil
}
