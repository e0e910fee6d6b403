package shard

import (
	"context"
	"errors"
	"iter"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Records iterates over the records from a position to the tail, and ends
// there; what is written meanwhile is included. Records belong to the caller.
//
// An error is yielded once and ends the iteration, except for a
// *shardlog.CorruptError: to go on after the damage, keep iterating.
func (s *Shard) Records(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.Iterate(ctx, from, Mode{})
}

// Scan is Records whose records are borrowed: their data and strings are valid
// until the loop asks for the next one, and must not be changed. It is for
// reading very much very fast.
func (s *Shard) Scan(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.Iterate(ctx, from, Mode{Borrow: true})
}

// Tail is Records that follows the shard: at the tail it waits for more. It
// ends when the shard is closed and read to its end, when ctx ends, with the
// error of ctx, or when the log is closed.
func (s *Shard) Tail(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.Iterate(ctx, from, Mode{Follow: true})
}

// Mode says how Iterate goes about it. The zero value is that of Records.
type Mode struct {
	Follow bool              // as Tail
	Borrow bool              // as Scan
	Wrap   func(error) error // applied to errors; nil for none
	// End, if set, is called when everything was read; the error, if any, is
	// yielded.
	End func() error
}

// Iterate is Records, Scan or Tail.
func (s *Shard) Iterate(ctx context.Context, from shardlog.Position, mode Mode) iter.Seq2[shardlog.Record, error] {
	return func(yield func(shardlog.Record, error) bool) { s.walk(ctx, from, mode, yield) }
}

func (s *Shard) walk(ctx context.Context, from shardlog.Position, mode Mode, yield func(shardlog.Record, error) bool) {
	// Errors are rare, so it is they that go the longer way.
	fail := func(err error) bool {
		if mode.Wrap != nil {
			err = mode.Wrap(err)
		}
		return yield(shardlog.Record{}, err)
	}
	st, err := s.resolve(s.view.Load(), from)
	if err != nil {
		fail(err)
		return
	}
	sc := scanner{s: s, at: st.counter, borrow: mode.Borrow, yield: yield, fail: fail}
	if st.partial {
		sc.inside = st.counter
	}
	relative := from.Kind() == shardlog.KindTrimHorizon || from.Kind() == shardlog.KindAtTime
	for {
		if err := errors.Join(ctx.Err(), s.log.closing()); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			fail(err)
			return
		}
		v := s.view.Load()
		if sc.at < v.horizon {
			// Retention went past this reader, if only while it found out
			// where the horizon is.
			if sc.at > st.counter || !relative {
				fail(s.trimmed(v, shardlog.At(s.sequence(sc.at, v.lastMs)), sc.at))
				return
			}
			st.counter, sc.at = v.horizon, v.horizon
		}
		e, m, ok := v.find(sc.at)
		switch {
		case ok:
			if !sc.block(v, e, m) {
				return
			}
		case v.closed && sc.at <= v.last:
			if !sc.skip(s.lostEnd(v, sc.at)) {
				return
			}
		case !mode.Follow || v.closed:
			if mode.End != nil {
				if err := mode.End(); err != nil {
					fail(err)
				}
			}
			return
		default:
			if _, err := s.waitFor(ctx, sc.at, nil); err != nil {
				fail(err)
				return
			}
		}
	}
}

// scanner walks over a shard block by block.
type scanner struct {
	s       *Shard
	at      uint64 // counter of the next record
	inside  uint64 // the record that the position is inside of; 0 if none
	borrow  bool   // bytes are used again for the next blocks
	arrival arrivals
	yield   func(shardlog.Record, error) bool // records
	fail    func(error) bool                  // errors

	// What was fetched and not yielded yet.
	ahead []entry
	spans [][2]int // where in arena the blocks are; empty where there is none
	arena []byte
	keys  [][]byte
}

// Bounds of what is fetched at once: enough that setting up a fetch does not
// matter, and little enough to stay in the processor's cache.
const (
	fetchBlocks = 32
	fetchBytes  = 256 << 10
)

// block yields the records of the block that find found; it returns false when
// the iteration is over.
func (sc *scanner) block(v *view, e entry, m *memBlock) bool {
	s := sc.s
	if m != nil {
		return sc.inMemory(v, m)
	}
	if err := sc.fetch(v.stored(&e, fetchBlocks, fetchBytes)); err != nil {
		sc.fail(err)
		return false
	}
	for i := range sc.ahead {
		b, err := sc.fetched(i)
		if errors.Is(err, errTrimmed) {
			return true // the next view has a later horizon
		}
		if err == nil {
			err = s.checkGap(v, sc.at, &b)
		}
		if err != nil {
			return sc.skip(err)
		}
		it, err := b.Seek(sc.at)
		if err != nil {
			return sc.skip(s.corrupt(b.First, b.End(), err))
		}
		if !sc.records(&b, it) {
			return false
		}
	}
	return true
}

// inMemory yields the records of a block that other readers share.
func (sc *scanner) inMemory(v *view, m *memBlock) bool {
	s, b := sc.s, m.b
	if err := s.checkGap(v, sc.at, &b); err != nil {
		return sc.skip(err)
	}
	it, err := b.Seek(sc.at)
	if err == nil && !sc.borrow {
		end := it
		if end, err = b.Seek(b.End()); err == nil {
			it.Own(end)
		}
	}
	if err != nil {
		return sc.skip(s.corrupt(b.First, b.End(), err))
	}
	return sc.records(&b, it)
}

// fetch copies stored blocks into the arena.
func (sc *scanner) fetch(entries []entry) error {
	sc.ahead = entries
	sc.keys, sc.spans = sc.keys[:0], sc.spans[:0]
	size := 0
	for i := range entries {
		sc.keys = append(sc.keys, blockKey(sc.s.id, &entries[i]))
		size += int(entries[i].size) + 64 // sizes found at open are estimates
	}
	if sc.arena = sc.arena[:0]; !sc.borrow || cap(sc.arena) < size {
		sc.arena = make([]byte, 0, size)
	}
	err := sc.s.log.store.GetMany(sc.keys, func(_ int, value []byte) bool {
		from := len(sc.arena)
		sc.arena = append(sc.arena, value...)
		sc.spans = append(sc.spans, [2]int{from, len(sc.arena)})
		return true
	})
	if errors.Is(err, shardlog.ErrCorrupt) {
		// Which of them it is shows when they are fetched one by one.
		sc.spans = sc.spans[:0]
		return nil
	}
	return err
}

// fetched returns the i-th block that was fetched.
func (sc *scanner) fetched(i int) (block.Block, error) {
	e := &sc.ahead[i]
	if i < len(sc.spans) {
		if span := sc.spans[i]; span[1] > span[0] {
			b, err := sc.s.log.coder.Decode(sc.arena[span[0]:span[1]:span[1]])
			if err == nil && b.First == e.first && b.Count == e.count {
				return b, nil
			}
		}
	}
	// Whatever is wrong with it, load says it properly.
	return sc.s.load(*e, nil, false)
}

func (sc *scanner) records(b *block.Block, it block.Iter) bool {
	s := sc.s
	var item block.Item
	var r shardlog.Record
	n, size := int64(0), int64(0)
	defer func() {
		s.stats.recordsOut.Add(n)
		s.stats.bytesOut.Add(size)
	}()
	for {
		ok, err := it.Next(&item)
		if err == nil && !ok {
			return true
		}
		if err == nil {
			err = s.record(&item, &sc.arrival, &r)
		}
		if err != nil {
			return sc.skip(s.corrupt(b.First, b.End(), err))
		}
		sc.at = item.Counter + 1
		if item.Counter == sc.inside && !isAggregate(r.Data) {
			continue // no part of it is left
		}
		n++
		size += int64(item.Size())
		if !sc.yield(r, nil) {
			return false
		}
	}
}

// skip yields an error and, if it is damage and the caller goes on, continues
// after it.
func (sc *scanner) skip(err error) bool {
	var c *shardlog.CorruptError
	if !errors.As(err, &c) {
		sc.fail(err)
		return false
	}
	sc.at = max(sc.at, c.Next.Sequence().Counter())
	return sc.fail(err)
}
