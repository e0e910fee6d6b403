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

// Tail is Records that follows the shard: at the tail it waits for more. It
// ends when the shard is closed and read to its end, when ctx ends, with the
// error of ctx, or when the log is closed.
func (s *Shard) Tail(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.Iterate(ctx, from, IterateOptions{Follow: true})
}

// Scan is Records whose records are borrowed; see Borrow.
func (s *Shard) Scan(ctx context.Context, from shardlog.Position) iter.Seq2[*shardlog.Record, error] {
	return s.Borrow(ctx, from, IterateOptions{})
}

// IterateOptions says how Iterate and Borrow go about it. The zero value is that
// of Records.
type IterateOptions struct {
	Follow bool              // as Tail
	Wrap   func(error) error // applied to errors; nil for none
	// End, if set, is called when everything was read; the error, if any, is
	// yielded.
	End func() error
}

// Iterate is Records or Tail.
func (s *Shard) Iterate(ctx context.Context, from shardlog.Position, o IterateOptions) iter.Seq2[shardlog.Record, error] {
	return func(yield func(shardlog.Record, error) bool) {
		s.walk(ctx, from, o, &scanner{s: s, owned: yield, fail: func(err error) bool { return yield(shardlog.Record{}, err) }})
	}
}

// Borrow is Iterate whose records are borrowed: a record, and the bytes of its
// data, strings and headers, are valid until the loop asks for the next one, and
// must not be changed. Nothing of the store is held meanwhile, so the loop may
// take as long as it likes and may call everything. With an error the record is nil.
func (s *Shard) Borrow(ctx context.Context, from shardlog.Position, o IterateOptions) iter.Seq2[*shardlog.Record, error] {
	return func(yield func(*shardlog.Record, error) bool) {
		sc := &scanner{s: s, borrowed: lend(yield), fail: func(err error) bool { return yield(nil, err) }}
		sc.headers.Reuse = true
		s.walk(ctx, from, o, sc)
	}
}

func (s *Shard) walk(ctx context.Context, from shardlog.Position, mode IterateOptions, sc *scanner) {
	// Errors are rare, so it is they that go the longer way.
	if fail := sc.fail; mode.Wrap != nil {
		sc.fail = func(err error) bool { return fail(mode.Wrap(err)) }
	}
	fail := sc.fail
	if isFuture(from) && mode.Follow {
		if _, err := s.untilDue(ctx, from, math.MaxInt64); err != nil {
			fail(err)
			return
		}
	}
	st, err := s.resolve(s.view.Load(), from)
	if err != nil {
		fail(err)
		return
	}
	if sc.at = st.counter; st.partial {
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
		v := s.view.Load()
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
	arrival arrivals
	fail    func(error) bool // yields errors

	// One of them yields records.
	owned    func(shardlog.Record, error) bool
	borrowed func(*shardlog.Record, error) bool

	rec     shardlog.Record // the last one
	item    block.Item      // what rec was made of, if it was not simple
	headers block.Headers   // memory for theirs
	cur     fetch           // what was fetched last
	// distrust makes it verify each block, after one that had been verified
	// before could not be decoded.
	distrust bool
}

// block yields the records of the block that find found; it returns false when
// the iteration is over.
func (sc *scanner) block(v *view, e blockRef, m *memBlock) bool {
	s := sc.s
	if m != nil {
		return sc.inMemory(v, m)
	}
	if sc.cur.run(s, v.stored(&e, fetchBlocks, fetchBytes), sc.borrowed != nil); sc.cur.err != nil {
		sc.fail(sc.cur.err)
		return false
	}
	if sc.distrust {
		sc.cur.mark.settled = false
	}
	for i := range sc.cur.refs {
		b, trusted, err := sc.cur.block(i)
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
		if err == nil {
			var more bool
			if more, err = sc.records(it); err == nil && !more {
				return false
			}
		}
		if err != nil && trusted {
			// It is read again and verified, so that damage is reported as if it
			// had been there before.
			s.verified.forget()
			sc.distrust = true
			if _, _, now := s.load(sc.cur.refs[i], nil, false); errors.Is(now, errTrimmed) || now == nil && sc.at < b.End() {
				return true
			} else if now != nil {
				err = now
			}
		}
		if err != nil {
			return sc.skip(s.asDamage(&sc.cur.refs[i], err))
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
	more := false
	if err == nil {
		if sc.borrowed == nil {
			it.Own(it.AtEnd())
		}
		more, err = sc.records(it)
	}
	if err != nil {
		return sc.skip(s.corrupt(b.First, b.End(), err))
	}
	return more
}

// records yields what an iterator has left; more is false when the loop was left.
// The error is a *block.DamageError.
func (sc *scanner) records(it block.Iter) (more bool, err error) {
	s, r := sc.s, &sc.rec
	n, size := int64(0), int64(0)
	defer func() {
		s.stats.recordsOut.Add(n)
		s.stats.bytesOut.Add(size)
	}()
	for {
		counter := it.Counter()
		if !it.Record(r, &sc.headers) {
			if ok, err := it.Next(&sc.item); err != nil || !ok {
				return true, err
			}
			if err := s.general(&sc.item, r, &sc.headers); err != nil {
				return true, err
			}
		}
		sc.arrival.set(it.Ms())
		// All fields are set, also those that are always the same: r was lent.
		r.Sequence, r.SubSequence, r.ShardID, r.Arrival = s.number(counter, &sc.arrival), 0, s.name, sc.arrival.t
		sc.at = counter + 1
		if counter == sc.inside && !isAggregate(r.Data) {
			continue // no part of it is left
		}
		n++
		size += int64(r.Size())
		if sc.borrowed != nil {
			more = sc.borrowed(r, nil)
		} else {
			more = sc.owned(*r, nil)
		}
		if !more {
			return false, nil
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
