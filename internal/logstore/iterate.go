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
		s.walk(ctx, from, o, &scanner{decoder: decoder{s: s}, owned: yield, fail: func(err error) bool { return yield(shardlog.Record{}, err) }})
	}
}

// Borrow is Iterate whose records are borrowed: a record, and the bytes of its
// data, strings and headers, are valid until the loop asks for the next one, and
// must not be changed. Nothing of the store is held meanwhile, so the loop may
// take as long as it likes and may call everything. With an error the record is nil.
func (s *Shard) Borrow(ctx context.Context, from shardlog.Position, o IterateOptions) iter.Seq2[*shardlog.Record, error] {
	return func(yield func(*shardlog.Record, error) bool) {
		sc := &scanner{decoder: decoder{s: s}, borrowed: lend(yield), fail: func(err error) bool { return yield(nil, err) }}
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
	st, err := s.resolve(s.view(), from)
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
	at     uint64           // counter of the next record
	inside uint64           // the record that the position is inside of; 0 if none
	fail   func(error) bool // yields errors

	// One of them yields records.
	owned    func(shardlog.Record, error) bool
	borrowed func(*shardlog.Record, error) bool

	decoder
	rec shardlog.Record // the one that is lent
	cur fetch           // what was fetched last
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
	for i := range sc.cur.refs {
		e := &sc.cur.refs[i]
		b, trusted, err := sc.cur.block(i)
		more := false
		if err == nil {
			more, err = sc.records(v, &b, false)
		}
		if trusted && isDamage(err) {
			if b, err = s.reread(e, sc.at, err); err == nil {
				more, err = sc.records(v, &b, false)
			}
		}
		if isDamage(err) {
			err = s.damaged(e, err)
		}
		switch {
		case errors.Is(err, errTrimmed):
			return true // the next view has a later horizon
		case err != nil:
			return sc.skip(err)
		case !more:
			return false
		}
	}
	return true
}

// inMemory yields the records of a block that other readers share.
func (sc *scanner) inMemory(v *view, m *memBlock) bool {
	more, err := sc.records(v, &m.b, true)
	if isDamage(err) {
		err = sc.s.corruptIn(m.b.First, m.b.End(), err)
	}
	if err != nil {
		return sc.skip(err)
	}
	return more
}

// records yields the records of a block from at on, of which other readers may
// have the bytes; more is false when the loop was
// left. The error is a *block.DamageError unless blocks are missing.
func (sc *scanner) records(v *view, b *block.Block, shared bool) (more bool, err error) {
	if err := sc.s.checkGap(v, sc.at, b); err != nil {
		return true, err
	}
	it, err := b.Seek(sc.at)
	if err != nil {
		return true, err
	}
	if shared && sc.borrowed == nil {
		it.Own(it.AtEnd())
	}
	if sc.borrowed != nil {
		return sc.lend(&it)
	}
	return sc.give(&it)
}

// give yields the records that it has left by value. It and lend differ in where
// the record is: here it stays on the stack, which spares the collector.
func (sc *scanner) give(it *block.Iter) (more bool, err error) {
	var r shardlog.Record
	n, size := int64(0), int64(0)
	for more = true; more; {
		ok, err := sc.next(it, &r)
		if err != nil || !ok {
			sc.count(n, size)
			return true, err
		}
		if sc.passes(it, &r) {
			n, size = n+1, size+int64(r.Size())
			more = sc.owned(r, nil)
		}
	}
	sc.count(n, size)
	return false, nil
}

// lend yields the records that it has left by reference.
func (sc *scanner) lend(it *block.Iter) (more bool, err error) {
	r := &sc.rec
	n, size := int64(0), int64(0)
	for more = true; more; {
		ok, err := sc.next(it, r)
		if err != nil || !ok {
			sc.count(n, size)
			return true, err
		}
		if sc.passes(it, r) {
			n, size = n+1, size+int64(r.Size())
			more = sc.borrowed(r, nil)
		}
	}
	sc.count(n, size)
	return false, nil
}

// passes notes that the reader has come to a record, and reports whether it gets
// it: not, if the position was inside of it and no part of it is left.
func (sc *scanner) passes(it *block.Iter, r *shardlog.Record) bool {
	sc.at = it.Counter()
	return sc.at-1 != sc.inside || isAggregate(r.Data)
}

func (sc *scanner) count(n, size int64) {
	sc.s.stats.recordsOut.Add(n)
	sc.s.stats.bytesOut.Add(size)
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
