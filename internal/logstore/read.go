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
	ms int64
	t  time.Time
}

func (a *arrivals) at(ms int64) time.Time {
	if ms != a.ms || a.t.IsZero() {
		a.ms, a.t = ms, time.UnixMilli(ms)
	}
	return a.t
}

// record fills in r from an item, whose bytes it keeps.
func (s *Shard) record(item *block.Item, a *arrivals, r *shardlog.Record) error {
	if err := item.Record(r); err != nil {
		return s.corrupt(item.Counter, item.Counter+1, err)
	}
	r.Sequence = s.sequence(item.Counter, item.Ms)
	r.ShardID = s.name
	r.Arrival = a.at(item.Ms)
	return nil
}
