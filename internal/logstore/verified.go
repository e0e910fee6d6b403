package logstore

import (
	"errors"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// The checksum of a stored block is verified when it is first read, and then no
// more until the store may have moved it, something of its shard could not be
// read, or the database is opened again: what the disk does to a block while the
// database is open is found by Verify and by the next open, and the log does not
// pay for looking at each read.

// moves counts how often the store has moved values. It is odd while the store
// may be moving some.
type moves struct{ n atomic.Uint64 }

// generation says between which two moves it is called; settled is false during
// one. What was read belongs to a generation if it was settled before and is
// still the same after.
func (m *moves) generation() (g uint64, settled bool) {
	g = m.n.Load()
	return g, g&1 == 0
}

// during runs f, in which the store may move values, and which reports whether
// it did. One call at a time.
func (m *moves) during(f func() (moved bool)) {
	m.n.Add(1)
	moved := true
	defer func() {
		if moved {
			m.n.Add(1)
		} else {
			m.n.Add(^uint64(0)) // nothing that is known has become untrue
		}
	}()
	moved = f()
}

// verified has the blocks of a shard whose checksums were verified, as runs of
// counters: one run for all that was read in order, and never more than half as
// many as there are blocks.
type verified struct {
	mu         sync.Mutex
	generation uint64 // of all runs; see moves
	runs       []run  // in order; no two touch each other
}

// run is the counters from one on, up to but not including another.
type run struct{ from, to uint64 }

// has reports whether a block was verified in the generation.
func (v *verified) has(generation uint64, e *blockRef) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.generation != generation {
		return false
	}
	i := v.after(e.first)
	return i < len(v.runs) && v.runs[i].from <= e.first && e.end() <= v.runs[i].to
}

// after returns the index of the first run that ends above a counter.
func (v *verified) after(counter uint64) int {
	return sort.Search(len(v.runs), func(i int) bool { return v.runs[i].to > counter })
}

// add notes that a block was verified in the generation. What is below the
// horizon is forgotten.
func (v *verified) add(generation uint64, e *blockRef, horizon uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case generation < v.generation:
		return
	case generation > v.generation:
		v.generation, v.runs = generation, v.runs[:0]
	}
	// Runs i to j-1 touch the block, or have a part of it, and become one with it.
	i := sort.Search(len(v.runs), func(i int) bool { return v.runs[i].to >= e.first })
	j, r := i, run{e.first, e.end()}
	for ; j < len(v.runs) && v.runs[j].from <= r.to; j++ {
		r = run{min(r.from, v.runs[j].from), max(r.to, v.runs[j].to)}
	}
	if i == j {
		gone := v.after(horizon)
		v.runs = slices.Delete(v.runs, 0, min(gone, i))
		i -= min(gone, i)
		j = i
	}
	v.runs = slices.Replace(v.runs, i, j, r)
}

// forget makes the next reader of each block verify it.
func (v *verified) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.runs = v.runs[:0]
}

// readMark is what is known of values that were copied from the store.
type readMark struct {
	generation uint64
	settled    bool
}

// beforeRead is called before values are copied from the store.
func (s *Shard) beforeRead() (m readMark) {
	m.generation, m.settled = s.log.moves.generation()
	return m
}

// afterRead is called when they were copied.
func (s *Shard) afterRead(m *readMark) {
	g, _ := s.log.moves.generation()
	m.settled = m.settled && g == m.generation
}

// decode takes the stored value of a block apart, verifying it if that is due.
// With over, a block that was compressed is valid until over is used again. All
// errors are damage. Trusted says that it was not verified by this call.
func (s *Shard) decode(value []byte, e *blockRef, m readMark, over *[]byte) (b block.Block, trusted bool, err error) {
	// What the store keeps in its tree it may move at any time, and verifying it
	// costs little.
	noted := m.settled && len(value) > kv.InlineValue
	trusted = noted && !block.Compressed(value) && s.verified.has(m.generation, e)
	coder := &s.log.coder
	switch {
	case trusted:
		b, err = coder.DecodeTrusted(value)
	case over != nil:
		b, err = coder.DecodeOver(value, over)
	default:
		b, err = coder.Decode(value)
	}
	if err == nil && (b.First != e.first || b.Count != e.count) {
		err = &block.DamageError{Offset: 16, Reason: "the block is another than its key says"}
	}
	if err != nil {
		return block.Block{}, trusted, s.damaged(e, err)
	}
	if noted && !trusted {
		s.verified.add(m.generation, e, s.view().horizon)
	}
	return b, trusted, nil
}

// reread reads a trusted block again, and verifies it, after err came up while
// its records were decoded, of which the reader has those before the counter at.
// So damage is reported as if it had been there when the block was read first.
func (s *Shard) reread(e *blockRef, at uint64, err error) (block.Block, error) {
	s.distrust(e)
	b, _, now := s.load(*e, nil, false)
	if now == nil && at >= e.end() {
		now = err // what was read of it cannot be taken back
	}
	return b, now
}

// isDamage reports whether an error is one of the decoder of blocks.
func isDamage(err error) bool {
	if err == nil {
		return false // before d is allocated
	}
	var d *block.DamageError
	return errors.As(err, &d)
}

// recordError is the damage of one record, behind which others can be read.
type recordError struct {
	counter uint64
	err     error // a *block.DamageError
}

func (e *recordError) Error() string { return e.err.Error() }
func (e *recordError) Unwrap() error { return e.err }

// damaged is the error for a block that cannot be read, or for a record of it. It
// makes sure that nothing of the shard is trusted any more.
func (s *Shard) damaged(e *blockRef, err error) error {
	s.distrust(e)
	return s.corruptIn(e.first, e.end(), err)
}

func (s *Shard) distrust(e *blockRef) {
	s.verified.forget()
	s.log.cache.drop(s, e.first)
}

// corruptIn is corrupt for a block with these counters, or the record that err is
// about.
func (s *Shard) corruptIn(first, end uint64, err error) error {
	if r := new(recordError); errors.As(err, &r) {
		first, end = r.counter, r.counter+1
	}
	return s.corrupt(first, end, err)
}
