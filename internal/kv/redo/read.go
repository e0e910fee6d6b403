package redo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/shardlog/shardlog/internal/kv"
)

// Frame is one that was read from a ring.
type Frame struct {
	At      kv.Position
	Version uint64  // 0 for an entry alone
	Ops     []kv.Op // their memory is the callee's, and so is that of Entry
	Entry   []byte
}

// Read calls f with each frame that counts, in order. It ends with f's error, or a
// *shardlog.DamageError if frames were lost: a valid frame follows one that is not, or
// the store was closed in order after more. Lost says that the system may have crashed
// since, which takes frames that were not synced.
func (r *Ring) Read(lost bool, f func(Frame) error) error {
	return r.walk(lost, func(h head, at kv.Position, frame []byte) error {
		entry, ops, err := r.decode(frame, h)
		if err != nil {
			return r.opts.damage(at.At, "%v", err)
		}
		return f(Frame{at, h.version, ops, entry})
	})
}

// walk calls f with the bytes of each frame that counts, as Read does. They are f's.
func (r *Ring) walk(lost bool, f func(h head, at kv.Position, frame []byte) error) error {
	r.mu.Lock()
	s, w := r.state, window{r: r}
	r.mu.Unlock()
	last, lap := s.at, r.size
	for p := (kv.Position{Seq: s.seq, At: s.at}); ; p.Seq++ {
		frame, h, err := w.frame(p.At, &s, p.Seq)
		if errors.Is(err, errFrame) && p.At != firstFrame {
			// The one before may have been the last that fits.
			if frame, h, err = w.frame(firstFrame, &s, p.Seq); err == nil {
				p.At, lap = firstFrame, p.At
			}
		}
		if errors.Is(err, errFrame) {
			if s.Clean && p.Seq <= s.Last {
				return r.opts.damage(p.At, "frame %d cannot be read there, and there were frames up to %d", p.Seq, s.Last)
			}
			err = nil
			ended := s.Clean && p.Seq == s.Last+1 // then none has to be looked for
			if !ended && !lost && r.unit == Pages {
				err = w.notSpoiled(p.At, &s, p.Seq)
			}
			if err == nil && !ended && (!lost || r.unit == Pages) {
				err = w.nothingBehind(p.At, &s, p.Seq)
			}
			if err == nil {
				r.walkedTo(p, last, lap)
			}
			return err
		}
		if err == nil {
			err = f(h, p, slices.Clone(frame))
		}
		if err != nil {
			return err
		}
		last = p.At
		p.At += int64(roundUp(len(frame), r.unit))
	}
}

// walkedTo notes where the frames end that the file has when it is opened: Begin writes
// behind them. The last one is at last, and lap is where the ring began again, or its size.
func (r *Ring) walkedTo(end kv.Position, last, lap int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.walked {
		r.walked = true
		r.head, r.seq, r.lap = end.At, end.Seq, lap
		r.full = last < r.state.at && r.head >= r.state.at
	}
}

// windowSize is how much is read in one call, in bytes, unless a frame is larger;
// firstWindow of a ring of which little has been read.
const (
	windowSize  = 256 << 10
	firstWindow = 32 << 10
)

// window reads a ring in order.
type window struct {
	r  *Ring
	at int64 // where b is
	b  []byte
}

// bytes returns n bytes from an offset, or fewer at the end of the ring. They are
// valid until the next call.
func (w *window) bytes(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.r.size-at))
	if n <= 0 {
		return nil, nil
	}
	if at < w.at || at+int64(n) > w.at+int64(len(w.b)) {
		from := at &^ (Page - 1)
		ahead := min(max(2*len(w.b), firstWindow), windowSize)
		size := int(min(int64(max(ahead, roundUp(n+Page, Page))), w.r.size-from))
		if cap(w.b) < size {
			w.b = pages(roundUp(size, Page) / Page)
		}
		w.b, w.at = w.b[:size], from
		if err := w.r.read(w.b, from); err != nil {
			w.b = w.b[:0]
			return nil, err
		}
	}
	return w.b[at-w.at:][:n:n], nil
}

// frame returns the frame at an offset, if its checksum is right. The error is errFrame
// if there is none of a state with the number.
func (w *window) frame(at int64, s *state, seq uint64) (frame []byte, h head, err error) {
	b, err := w.bytes(at, frameHeader)
	if err != nil {
		return nil, h, err
	}
	if len(b) < frameHeader {
		return nil, h, errFrame
	}
	h, size, err := decodeHead(b)
	if err != nil || !h.is(s, seq) {
		return nil, h, errFrame
	}
	if b, err = w.bytes(at, size); err != nil {
		return nil, h, err
	}
	if len(b) < size || binary.LittleEndian.Uint64(b) != w.r.sum(b[8:]) {
		return nil, h, errFrame
	}
	return b, h, nil
}

// notSpoiled returns damage if the header of a frame with the number is there and the rest is
// not, although it is one page: a process that is killed leaves that or nothing.
func (w *window) notSpoiled(at int64, s *state, seq uint64) error {
	for _, at := range []int64{at, firstFrame} {
		b, err := w.bytes(at, frameHeader)
		if err != nil {
			return err
		}
		if len(b) < frameHeader {
			continue
		}
		if h, size, err := decodeHead(b); err == nil && h.is(s, seq) && size <= Page {
			return w.r.opts.damage(at, "frame %d, the last one, fails its checksum", seq)
		}
	}
	return nil
}

// nothingBehind returns damage if a frame follows the one with the number, which
// is not there: frames are written one after the other.
func (w *window) nothingBehind(at int64, s *state, seq uint64) error {
	for _, from := range slices.Compact([]int64{at, firstFrame}) {
		end := min(from+MaxFrame+Page, w.r.size)
		for p := from; p < end; {
			found, next, err := w.later(p, s, seq)
			if err != nil {
				return err
			}
			if p = next; found == 0 {
				continue
			}
			if _, _, err := w.frame(p, s, found); err == nil {
				return w.r.opts.damage(at, "frame %d cannot be read there, and frame %d can at %d", seq, found, p)
			} else if !errors.Is(err, errFrame) {
				return err
			}
			p += w.r.unit
		}
	}
	return nil
}

// later looks in a window that begins at p for the header of a frame with a higher number,
// and returns it and where it is; or 0, and from where on to look next. It looks at the places
// alone where the four bytes are that each frame has: a ring of Words has many places.
func (w *window) later(p int64, s *state, seq uint64) (found uint64, next int64, err error) {
	b, err := w.bytes(p, windowSize)
	if err != nil {
		return 0, p, err
	}
	last := len(b) - frameHeader // the last place of a header
	for i := 0; i <= last; {
		n := bytes.Index(b[i+magicAt:], frameMagicBytes)
		if n < 0 || i+n > last {
			break
		}
		if i += n; i == roundUp(i, w.r.unit) {
			if h, _, err := decodeHead(b[i:]); err == nil && h.is(s, h.seq) && h.seq > seq {
				return h.seq, p + int64(i), nil
			}
		}
		i++
	}
	return 0, p + int64(max(roundUp(last+1, w.r.unit), int(w.r.unit))), nil
}
