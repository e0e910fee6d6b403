package logstore

import (
	"context"
	"errors"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Read returns the records that follow req.From; see shardlog.ReadRequest for
// its bounds, whose faults are the caller's to find. Req.ShardID is not used.
// It waits at most req.Wait. Its errors are of the types of package shardlog,
// or that of ctx.
func (s *Shard) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	if err := ctx.Err(); err != nil {
		return shardlog.Page{}, shardlog.ContextError(ctx)
	}
	maxRecords, maxBytes := req.MaxRecords, req.MaxBytes
	if maxRecords <= 0 || maxRecords > shardlog.MaxPageRecords {
		maxRecords = shardlog.MaxPageRecords
	}
	if maxBytes <= 0 || maxBytes > shardlog.MaxPageBytes {
		maxBytes = shardlog.MaxPageBytes
	}
	if isFuture(req.From) {
		start := time.Now()
		if v, err := s.untilDue(ctx, req.From, req.Wait); err != nil || !v.closed && isFuture(req.From) {
			p := shardlog.Page{Next: req.From}
			return p, err
		}
		req.Wait = max(req.Wait-time.Since(start), 0)
	}
	v := s.view()
	st, err := s.resolve(v, req.From)
	if err != nil {
		return shardlog.Page{}, err
	}
	st = s.inside(v, st)
	if st.counter > v.last && !v.closed && req.Wait > 0 {
		wait := time.NewTimer(req.Wait)
		defer wait.Stop()
		if v, err = s.waitFor(ctx, st.counter, wait.C); err != nil {
			return shardlog.Page{}, err
		}
	}
	for {
		if st.counter < v.horizon {
			// Retention went past this reader while it waited or read.
			if !isRelative(req.From) {
				return shardlog.Page{}, s.trimmed(v, req.From, st.counter)
			}
			st = readStart{counter: v.horizon}
		}
		st = s.inside(v, st)
		p, err := s.page(v, st.counter, maxRecords, maxBytes)
		if !errors.Is(err, errTrimmed) {
			return p, err
		}
		v = s.view()
	}
}

// arrivals turns milliseconds into times; consecutive records often share one.
type arrivals struct {
	ms, seconds int64
	t           time.Time
}

func (a *arrivals) set(ms int64) {
	if ms != a.ms || a.t.IsZero() {
		a.ms, a.seconds, a.t = ms, ms/1000, time.UnixMilli(ms)
	}
}

// number composes the number of the record with the counter that arrived then.
func (s *Shard) number(counter uint64, a *arrivals) shardlog.SequenceNumber {
	return shardlog.NewSequenceNumber(s.created, s.id.Shard, counter, a.seconds)
}

// decoder takes records out of blocks, one after another.
type decoder struct {
	s       *Shard
	arrival arrivals
	headers block.Headers
	item    block.Item
}

// next decodes the next record into r. ok is false at the end of the block; the
// error is a *block.DamageError. No record that was ever stored has an empty key,
// but bytes that became zeros look as if theirs had; in a block that is trusted
// nothing else shows that.
func (d *decoder) next(it *block.Iter, r *shardlog.Record) (ok bool, err error) {
	counter := it.Counter()
	if !it.Record(r, &d.headers) {
		if ok, err := it.Next(&d.item); err != nil || !ok {
			return false, err
		}
		if len(d.item.Key) == 0 {
			return false, &recordError{counter, &block.DamageError{Offset: -1, Reason: "a record without a partition key"}}
		}
		if err := d.item.Record(r, &d.headers); err != nil {
			return false, &recordError{counter, err}
		}
	}
	d.arrival.set(it.Ms())
	// All fields are set, also those that are always the same: r may have been lent.
	r.Sequence, r.SubSequence, r.ShardID, r.Arrival = d.s.number(counter, &d.arrival), 0, d.s.name, d.arrival.t
	return true, nil
}

// end returns an error if the records of a block end before its bytes do.
func (d *decoder) end(it *block.Iter) error {
	if !it.Done() {
		return nil
	}
	_, err := it.Next(&d.item)
	return err
}
