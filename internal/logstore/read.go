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
	v := s.view.Load()
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
		v = s.view.Load()
	}
}

// page reads from a view. What is damaged ends the page if it has records, and
// is the error if it has none.
func (s *Shard) page(v *view, at uint64, maxRecords, maxBytes int) (shardlog.Page, error) {
	if err := s.log.closing(); err != nil {
		return shardlog.Page{}, err
	}
	var p shardlog.Page
	for len(p.Records) < maxRecords && maxBytes > 0 {
		e, m, ok := v.find(at)
		if !ok {
			if err := s.lostEnd(v, at); err != nil && len(p.Records) == 0 {
				return shardlog.Page{}, err
			}
			break
		}
		// A block that the page will have whole is not kept for others: its
		// memory becomes that of the records.
		own := m == nil && at <= e.first && int(e.count) <= maxRecords-len(p.Records) && int(e.size) <= maxBytes
		b, err := s.load(e, m, !own)
		if err == nil {
			err = s.checkGap(v, at, &b)
		}
		if err == nil {
			var next uint64
			if p.Records == nil {
				p.Records = make([]shardlog.Record, 0, estimateRecords(&b, at, v.last, maxRecords, maxBytes))
			}
			next, maxBytes, err = s.fill(&p, &b, own, at, maxRecords, maxBytes)
			if err == nil && next == at {
				break // the next record does not fit
			}
			at = next
		}
		if err != nil {
			if len(p.Records) > 0 {
				break
			}
			return shardlog.Page{}, err
		}
	}
	s.completePage(&p, v, at)
	return p, nil
}

// estimateRecords returns how many records a page will have, as far as the first block of it
// shows: growing a page of many records costs more than filling it.
func estimateRecords(b *block.Block, at, last uint64, maxRecords, maxBytes int) int {
	n := uint64(maxRecords)
	if last >= at {
		n = min(n, last-at+1)
	}
	if b.Count > 0 {
		each := max(1, b.Size()/int(b.Count))
		n = min(n, uint64(maxBytes/each)+1)
	}
	return int(n)
}

// fill adds records of a block from the counter on, over a copy of their bytes
// unless the block is the page's own.
func (s *Shard) fill(p *shardlog.Page, b *block.Block, own bool, at uint64, maxRecords, maxBytes int) (next uint64, left int, err error) {
	it, err := b.Seek(at)
	if err != nil {
		return at, maxBytes, s.corrupt(b.First, b.End(), err)
	}
	// How far the page reaches is found first, so that just that is copied.
	var item block.Item
	stop, n := it, 0
	for len(p.Records)+n < maxRecords {
		prev := stop
		ok, err := stop.Next(&item)
		if err != nil {
			return at, maxBytes, s.corrupt(b.First, b.End(), err)
		}
		if !ok {
			break
		}
		size := item.Size()
		if size > maxBytes && len(p.Records)+n > 0 {
			stop, maxBytes = prev, 0
			break
		}
		maxBytes -= size
		n++
	}
	if !own {
		it.Own(stop)
	}
	var arrival arrivals
	for range n {
		if _, err := it.Next(&item); err != nil {
			return at, maxBytes, s.corrupt(b.First, b.End(), err)
		}
		p.Records = append(p.Records, shardlog.Record{})
		if err := s.record(&item, &arrival, &p.Records[len(p.Records)-1]); err != nil {
			p.Records = p.Records[:len(p.Records)-1]
			return at, maxBytes, err
		}
	}
	return stop.Counter(), maxBytes, nil
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

// completePage fills in what a page says about its place; at is the counter of the
// record that follows it.
func (s *Shard) completePage(p *shardlog.Page, v *view, at uint64) {
	var size int64
	for i := range p.Records {
		size += int64(p.Records[i].Size())
	}
	s.stats.recordsOut.Add(int64(len(p.Records)))
	s.stats.bytesOut.Add(size)
	if n := len(p.Records); n > 0 && at == counterOf(p.Records[n-1].Sequence)+1 {
		p.Next = shardlog.After(p.Records[n-1].Sequence)
	} else {
		p.Next = shardlog.At(s.sequence(at, v.lastMs))
	}
	p.BehindRecords = v.after(at)
	p.End = v.closed && at > v.last
	if p.BehindRecords > 0 {
		var since int64
		if n := len(p.Records); n > 0 {
			since = p.Records[n-1].Arrival.UnixMilli()
		} else if len(v.blocks) > 0 {
			since = v.blocks[0].firstMs
		}
		p.Behind = max(0, time.Duration(v.lastMs-since)*time.Millisecond) // the clock may have stepped back
	}
}
