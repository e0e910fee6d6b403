package redo

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog/internal/kv"
)

// ErrFull says that what the ring is to begin with does not fit into it.
var ErrFull = errors.New("the redo log has no room for what it has to keep")

// Begin makes the ring one that has just these entries, and returns their places. The
// store has everything else on disk, as m says. From then on frames begin at multiples
// of unit, and are sealed with the key: 32 bytes that are stored where Options.Key finds
// them, and that no call of Begin had before, not even one that failed, because the numbers
// of frames are the nonces. Nil for none.
//
// All that is durable when it returns. With ErrFull nothing was done. After another error,
// or if the process or the system ends meanwhile, the file has what it had, or it has what it
// was to begin with. No frame is being appended.
func (r *Ring) Begin(m Mark, key []byte, unit int64, entries [][]byte) ([]kv.Position, error) {
	aead, err := sealer(key)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	walked := r.walked
	r.mu.Unlock()
	if !walked {
		// Otherwise it is not known which pages are free.
		if err := r.walk(true, func(head, kv.Position, []byte) error { return nil }); err != nil {
			return nil, err
		}
	}
	places, end, err := r.plan(unit, aead != nil, entries)
	if err != nil {
		return nil, err
	}
	if err := r.rename(); err != nil {
		r.Fail(err)
		return nil, err
	}
	if err := r.prepare(unit, aead); err != nil {
		r.Fail(err)
		return nil, err
	}
	var random [4]byte
	rand.Read(random[:])
	attempt := binary.LittleEndian.Uint32(random[:])
	err = r.rewrite(attempt, places, entries)
	if err == nil && len(entries) > 0 {
		err = r.f.Sync()
	}
	if err != nil {
		r.Fail(err)
		return nil, err
	}
	first := kv.Position{Seq: 1, At: firstFrame}
	if len(places) > 0 {
		first = places[0]
	}
	m.Limit = 0
	err = r.advance(true, func(s *state) {
		s.Mark, s.gen, s.unit, s.seq, s.at = m, s.gen+1, unit, 1, first.At
		s.attempt, s.sealed = attempt, aead != nil
	}, func() {
		r.head, r.seq, r.lap, r.durable, r.filling = end.At, end.Seq, r.size, end.Seq, false
		r.full, r.begun = len(places) > 0 && end.At == first.At, true
	})
	if err != nil {
		return nil, err
	}
	return places, nil
}

// plan returns the places of frames with the entries where no frame is that counts, and the
// end of the last one.
func (r *Ring) plan(unit int64, sealed bool, entries [][]byte) (places []kv.Position, end kv.Position, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, end, r.err
	}
	// What is free, in order: up to two runs of the file.
	free := [][2]int64{{firstFrame, r.size}}
	switch {
	case r.full:
		free = [][2]int64{{max(r.lap, r.head), r.size}} // of a short lap
	case r.seq == r.state.seq:
	case r.head >= r.state.at:
		free = [][2]int64{{r.head, r.size}, {firstFrame, r.state.at}}
	default:
		// Not both: from one place a reader continues at the beginning of the ring alone.
		if free = [][2]int64{{r.head, r.state.at}}; r.size-r.lap > r.state.at-r.head {
			free = [][2]int64{{r.lap, r.size}}
		}
	}
	end = kv.Position{Seq: 1, At: firstFrame}
	for _, e := range entries {
		n := int64(roundUp(entryFrame(len(e), sealed), unit))
		at := int64(0)
		for ; len(free) > 0; free = free[1:] {
			if at = int64(roundUp(int(free[0][0]), unit)); at+n <= free[0][1] {
				break
			}
		}
		if len(free) == 0 || n > MaxFrame {
			return nil, end, ErrFull
		}
		places = append(places, kv.Position{Seq: end.Seq, At: at})
		end = kv.Position{Seq: end.Seq + 1, At: at + n}
		free[0][0] = end.At
	}
	return places, end, nil
}

// rename gives a ring of the earlier name that of this program, durably, before it gets an
// entry that others would not know.
func (r *Ring) rename() error {
	if !r.earlier {
		return nil
	}
	if err := r.writeIdent(); err != nil {
		return err
	}
	if err := r.f.Sync(); err != nil {
		return err
	}
	r.earlier = false
	return nil
}

// prepare makes frames be written as the next generation wants them.
func (r *Ring) prepare(unit int64, aead cipher.AEAD) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.remap(unit); err != nil {
		return err
	}
	r.unit, r.aead = unit, aead
	return nil
}

// rewrite writes frames of the next generation to their places.
func (r *Ring) rewrite(attempt uint32, places []kv.Position, entries [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range entries {
		n := roundUp(entryFrame(len(e), r.aead != nil), r.unit)
		h := head{gen: r.state.gen + 1, attempt: attempt, seq: places[i].Seq}
		if _, err := r.write(places[i].At, n, h, e); err != nil {
			return err
		}
	}
	return nil
}

// remap maps the file in its size, or ends that, as a unit wants it, with mu held. After an
// error it is mapped as before.
func (r *Ring) remap(unit int64) error {
	var m []byte
	if unit == Words {
		size, err := r.f.Size()
		if err == nil && size < r.size {
			err = fmt.Errorf("%s has %d bytes, and had %d", r.opts.Path, size, r.size)
		}
		if err == nil {
			m, err = r.f.Map(r.size)
		}
		if err != nil && !errors.Is(err, ErrNotMapped) {
			return err
		}
	}
	old := r.memory
	r.memory = m
	if old == nil {
		return nil
	}
	return r.f.Unmap(old)
}
