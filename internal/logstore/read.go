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
	f := filler{s: s, page: &p, records: maxRecords, bytes: maxBytes}
	again := false // the block is read once more, because it was trusted and is damaged
	for f.records > 0 && f.bytes > 0 && !f.full {
		e, m, ok := v.find(at)
		if !ok {
			if err := s.lostEnd(v, at); err != nil && len(p.Records) == 0 {
				return shardlog.Page{}, err
			}
			break
		}
		// A block that the page will have whole is not kept for others: its
		// memory becomes that of the records.
		own := m == nil && at <= e.first && int(e.count) <= f.records && int(e.size) <= f.bytes
		b, trusted, err := s.load(e, m, !own)
		if err == nil {
			err = s.checkGap(v, at, &b)
		}
		if err == nil {
			if p.Records == nil {
				p.Records = make([]shardlog.Record, 0, estimateRecords(&b, at, v.last, maxRecords, maxBytes))
			}
			var next uint64
			if next, err = f.fill(&b, own, at); err != nil {
				if m != nil {
					return shardlog.Page{}, s.corrupt(b.First, b.End(), err)
				}
				if err = s.damaged(&e, err); trusted && !again {
					again = true
					continue
				}
			}
			at, again = next, false
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

// filler adds records to a page.
type filler struct {
	s              *Shard
	page           *shardlog.Page
	records, bytes int // that the page still takes
	arrival        arrivals
	headers        block.Headers
	item           block.Item
	full           bool // the next record does not fit
}

// fill adds records of a block from the counter on, over a copy of their bytes
// unless the block is the page's own. It returns the counter after the last one.
// The error is a *block.DamageError; then no record was added.
func (f *filler) fill(b *block.Block, own bool, at uint64) (next uint64, err error) {
	it, err := b.Seek(at)
	if err != nil {
		return at, err
	}
	stop := it.AtEnd()
	if n := it.Left(); n > uint64(f.records) || b.Size() > f.bytes {
		if stop, err = f.reach(it); err != nil {
			return at, err
		}
	}
	if !own {
		it.Own(stop)
	}
	before, bytes := len(f.page.Records), f.bytes
	for err == nil && it.Counter() < stop.Counter() {
		err = f.add(&it)
	}
	if err == nil && it.Done() {
		_, err = it.Next(&f.item) // nothing is left over
	}
	if err != nil {
		f.page.Records, f.bytes = f.page.Records[:before], bytes
		return at, err
	}
	f.records -= len(f.page.Records) - before
	return stop.Counter(), nil
}

// add adds the next record of an iterator.
func (f *filler) add(it *block.Iter) error {
	f.page.Records = append(f.page.Records, shardlog.Record{})
	r, counter := &f.page.Records[len(f.page.Records)-1], it.Counter()
	if !it.Record(r, &f.headers) {
		if _, err := it.Next(&f.item); err != nil {
			return err
		}
		if err := f.s.general(&f.item, r, &f.headers); err != nil {
			return err
		}
	}
	f.arrival.set(it.Ms())
	r.Sequence, r.ShardID, r.Arrival = f.s.number(counter, &f.arrival), f.s.name, f.arrival.t
	f.bytes -= r.Size()
	return nil
}

// reach returns an iterator that stands where the page is full, so that just what
// it takes is copied. A page takes its first record whatever its size is.
func (f *filler) reach(it block.Iter) (block.Iter, error) {
	left := f.bytes
	for n := range f.records {
		prev := it
		ok, err := it.Next(&f.item)
		if err != nil || !ok {
			return it, err
		}
		if left -= f.item.Size(); left < 0 && len(f.page.Records)+n > 0 {
			f.full = true
			return prev, nil
		}
	}
	return it, nil
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

// general fills in r from an item that Iter.Record has left to it. No record that
// was ever stored has an empty key, but bytes that became zeros look as if theirs
// had; in a block that is trusted nothing else shows that.
func (s *Shard) general(item *block.Item, r *shardlog.Record, h *block.Headers) error {
	if len(item.Key) == 0 {
		return &block.DamageError{Offset: -1, Reason: "a record without a partition key"}
	}
	return item.Record(r, h)
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
