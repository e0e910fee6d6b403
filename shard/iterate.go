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
	return s.iterate(ctx, from, false)
}

// Tail is Records that follows the shard: at the tail it waits for more. It
// ends when the shard is closed and read to its end, when ctx ends, with the
// error of ctx, or when the log is closed.
func (s *Shard) Tail(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.iterate(ctx, from, true)
}

func (s *Shard) iterate(ctx context.Context, from shardlog.Position, follow bool) iter.Seq2[shardlog.Record, error] {
	return func(yield func(shardlog.Record, error) bool) {
		v := s.view.Load()
		st, err := s.resolve(v, from)
		if err != nil {
			yield(shardlog.Record{}, err)
			return
		}
		sc := scanner{s: s, at: st.counter, yield: yield}
		if st.partial {
			sc.inside = st.counter
		}
		for {
			if err := ctx.Err(); err != nil {
				yield(shardlog.Record{}, context.Cause(ctx))
				return
			}
			if err := s.log.closing(); err != nil {
				yield(shardlog.Record{}, err)
				return
			}
			v := s.view.Load()
			e, m, ok := v.find(max(sc.at, v.horizon))
			switch {
			case ok:
				if !sc.block(v, e, m) {
					return
				}
			case !follow || (v.closed && sc.at > v.last):
				return
			default:
				if _, err := s.waitFor(ctx, sc.at, nil); err != nil {
					yield(shardlog.Record{}, err)
					return
				}
			}
		}
	}
}

// scanner walks over a shard block by block.
type scanner struct {
	s       *Shard
	at      uint64 // counter of the next record
	inside  uint64 // the record that the position is inside of; 0 if none
	arrival arrivals
	yield   func(shardlog.Record, error) bool
}

// block yields the records of one block; it returns false when the iteration
// is over.
func (sc *scanner) block(v *view, e entry, m *memBlock) bool {
	s := sc.s
	if sc.at < v.horizon {
		// Retention went past this reader.
		err := s.trimmed(v, shardlog.At(s.sequence(sc.at, v.lastMs)), sc.at)
		sc.yield(shardlog.Record{}, err)
		return false
	}
	b, err := s.load(e, m, false)
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
	if m != nil {
		// A block in memory is shared with other readers.
		end := it
		if end, err = b.Seek(b.End()); err != nil {
			return sc.skip(s.corrupt(b.First, b.End(), err))
		}
		it.Own(end)
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
		sc.yield(shardlog.Record{}, err)
		return false
	}
	sc.at = max(sc.at, c.Next.Sequence().Counter())
	return sc.yield(shardlog.Record{}, err)
}
