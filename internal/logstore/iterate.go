package logstore

import (
	"context"
	"errors"
	"iter"
	"math"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Records iterates over the records from a position to the tail, and ends
// there; what is written meanwhile is included. Records belong to the caller.
//
// An error is yielded once and ends the iteration, except for a
// *shardlog.CorruptError: to continue after the damage, keep iterating.
func (s *Shard) Records(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.Iterate(ctx, from, IterateOptions{})
}

// Scan is Records whose records are borrowed: their data and strings are valid
// until the loop asks for the next one, and must not be changed. It is for
// reading very much very fast.
func (s *Shard) Scan(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.Iterate(ctx, from, IterateOptions{Borrow: true})
}

// Tail is Records that follows the shard: at the tail it waits for more. It
// ends when the shard is closed and read to its end, when ctx ends, with the
// error of ctx, or when the log is closed.
func (s *Shard) Tail(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.Iterate(ctx, from, IterateOptions{Follow: true})
}

// IterateOptions says how Iterate goes about it. The zero value is that of Records.
type IterateOptions struct {
	Follow bool              // as Tail
	Borrow bool              // as Scan
	Wrap   func(error) error // applied to errors; nil for none
	// End, if set, is called when everything was read; the error, if any, is
	// yielded.
	End func() error
}

// Iterate is Records, Scan or Tail.
func (s *Shard) Iterate(ctx context.Context, from shardlog.Position, mode IterateOptions) iter.Seq2[shardlog.Record, error] {
	return func(yield func(shardlog.Record, error) bool) { s.walk(ctx, from, mode, yield) }
}

func (s *Shard) walk(ctx context.Context, from shardlog.Position, mode IterateOptions, yield func(shardlog.Record, error) bool) {
	// Errors are rare, so it is they that go the longer way.
	fail := func(err error) bool {
		if mode.Wrap != nil {
			err = mode.Wrap(err)
		}
		return yield(shardlog.Record{}, err)
	}
	if isFuture(from) && mode.Follow {
		if _, err := s.untilDue(ctx, from, math.MaxInt64); err != nil {
			fail(err)
			return
		}
	}
	st, err := s.resolve(s.view(), from)
	if err != nil {
		fail(err)
		return
	}
	sc := scanner{s: s, at: st.counter, borrow: mode.Borrow, yield: yield, fail: fail}
	if st.partial {
		sc.inside = st.counter
	}
	for {
		if err := errors.Join(ctx.Err(), s.log.closing()); err != nil {
			if ctx.Err() != nil {
				err = shardlog.ContextError(ctx)
			}
			fail(err)
			return
		}
		v := s.view()
		if sc.at < v.horizon {
			// Retention went past this reader, if only while it found out
			// where the horizon is.
			if sc.at > st.counter || !isRelative(from) {
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

	cur fetch // what was fetched last
}

// block yields the records of the block that find found; it returns false when
// the iteration is over.
func (sc *scanner) block(v *view, e blockRef, m *memBlock) bool {
	s := sc.s
	if m != nil {
		return sc.inMemory(v, m)
	}
	if sc.cur.run(s, v.stored(&e, fetchBlocks, fetchBytes), sc.borrow); sc.cur.err != nil {
		sc.fail(sc.cur.err)
		return false
	}
	for i := range sc.cur.refs {
		b, err := sc.cur.block(i)
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

func (sc *scanner) records(b *block.Block, it block.Iter) bool {
	s := sc.s
	var item block.Item
	var r shardlog.Record
	n, size := int64(0), int64(0)
	defer func() {
		s.stats.recordsOut.Add(n)
		s.stats.bytesOut.Add(size)
	}()
	// The fields that Plain leaves alone, but for the sequence number, are
	// those of the last record as long as it was plain and of the same moment.
	same, ms := false, int64(0)
	for {
		counter := it.Counter()
		if same && it.Plain(&r) {
			r.Sequence = s.sequence(counter, ms)
		} else {
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
			same, ms = item.Plain(), item.Ms
		}
		sc.at = counter + 1
		if counter == sc.inside && !isAggregate(r.Data) {
			continue // no part of it is left
		}
		n++
		if size += int64(len(r.PartitionKey) + len(r.Data)); !same {
			size += int64(item.Size() - len(item.Key) - len(item.Data))
		}
		if !sc.yield(r, nil) {
			return false
		}
	}
}

// skip yields an error and, if it is damage and the caller has not left the
// loop, continues after it.
func (sc *scanner) skip(err error) bool {
	var c *shardlog.CorruptError
	if !errors.As(err, &c) {
		sc.fail(err)
		return false
	}
	sc.at = max(sc.at, counterOf(c.Next.Sequence()))
	return sc.fail(err)
}
