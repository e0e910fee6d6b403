package redo

import (
	"cmp"
	"errors"
	"slices"

	"github.com/shardlog/shardlog/internal/kv"
)

// Salvage calls f with each frame that is whole of a ring that is damaged, in their
// order, until f returns an error: also with those behind one that is not whole. Without a
// state, frames may be among them that the ring has given back. Frames that cannot be
// decrypted are left out. It writes nothing.
func Salvage(o Options, f func(Frame) error) error {
	o.Open = OpenReadOnly
	r, err := attach(o)
	if err != nil {
		return err
	}
	err = r.salvage(f)
	return errors.Join(err, r.f.Close())
}

// found is where a frame is.
type found struct {
	head
	at int64
}

func (r *Ring) salvage(f func(Frame) error) error {
	s := state{seq: 1}
	var known bool
	if r.size >= firstFrame {
		head := pages(firstFrame / Page)
		if err := r.read(head, 0); err == nil {
			s, known = newestState(head, r.size)
		}
	}
	frames := r.scan(func(h head) bool { return !known || h.is(&s, h.seq) && h.seq >= s.seq })
	w := window{r: r}
	for _, p := range frames {
		b, h, err := w.frame(p.at, &state{gen: p.gen, attempt: p.attempt}, p.seq)
		if err != nil {
			continue // it was whole just now
		}
		if r.aead = nil; r.opts.Key != nil {
			if r.aead, err = sealer(r.opts.Key(p.gen)); err != nil {
				return err
			}
		}
		entry, ops, err := r.decode(slices.Clone(b), h)
		if err != nil {
			continue
		}
		if err := f(Frame{kv.Position{Seq: p.seq, At: p.at}, h.version, ops, entry}); err != nil {
			return err
		}
	}
	return nil
}

// scan returns the whole frames that are wanted, by generation and number. Frames begin
// at multiples of the smaller unit.
func (r *Ring) scan(wanted func(head) bool) (frames []found) {
	w := window{r: r}
	for at := int64(firstFrame); at < r.size; {
		b, err := w.bytes(at, frameHeader)
		if err != nil {
			at += Page // what cannot be read is damaged as well
			continue
		}
		if len(b) < frameHeader {
			break
		}
		h, size, err := decodeHead(b)
		if err == nil {
			_, _, err = w.frame(at, &state{gen: h.gen, attempt: h.attempt}, h.seq)
		}
		if err != nil {
			at += Words
			continue
		}
		if wanted(h) {
			frames = append(frames, found{h, at})
		}
		at += int64(roundUp(size, Words))
	}
	slices.SortFunc(frames, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.gen, b.gen), cmp.Compare(a.seq, b.seq))
	})
	return frames
}
