package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Bounds of one page, as Kinesis has them.
const (
	maxPageRecords = 10_000
	maxPageBytes   = 10 << 20
)

// aggregateMagic begins an aggregated record (KPL aggregation format).
var aggregateMagic = []byte{0xf3, 0x89, 0x9a, 0xc2}

func isAggregate(data []byte) bool { return bytes.HasPrefix(data, aggregateMagic) }

// start is a resolved position: the counter of the first record to return.
type start struct {
	counter uint64
	// partial says that the record with the counter is returned only if it
	// is an aggregate: the position is inside it.
	partial bool
}

// resolve finds where a position is in a view.
func (s *Shard) resolve(v *view, from shardlog.Position) (start, error) {
	switch from.Kind() {
	case shardlog.KindTrimHorizon:
		return start{counter: v.horizon}, nil
	case shardlog.KindLatest:
		return start{counter: max(v.last+1, v.horizon)}, nil
	case shardlog.KindAtTime:
		c, err := s.atTime(v, from.Time())
		return start{counter: c}, err
	}
	seq := from.Sequence()
	if !s.owns(seq) {
		return start{}, s.foreign(from)
	}
	st := start{counter: counterOf(seq)}
	if from.Kind() == shardlog.KindAfter {
		if from.SubSequence() == shardlog.WholeRecord {
			st.counter++
		} else {
			st.partial = true
		}
	}
	if st.counter <= s.base {
		// The shard's own first number is a valid place to begin, and so is
		// everything below its records.
		st = start{counter: s.base + 1}
	}
	if st.counter < v.horizon {
		return start{}, s.trimmed(v, from, st.counter)
	}
	return st, nil
}

// foreign is the error for a position at a number that s cannot have given to a
// record: of another shard, of a stream that had the same name, or of another log.
func (s *Shard) foreign(from shardlog.Position) error {
	limit := fmt.Sprintf("a number of %s, created at %s", s.name, time.Unix(s.created, 0).UTC().Format(time.RFC3339))
	index, ok := from.Sequence().Shard()
	created, _ := from.Sequence().Created()
	if ok {
		limit += fmt.Sprintf("; this one is of %s, created at %s", Name(index), created.UTC().Format(time.RFC3339))
	} else {
		limit += "; this one was not given out by a log of this kind"
	}
	return &shardlog.InvalidError{Field: "Position", Value: from.String(), Limit: limit}
}

func (s *Shard) trimmed(v *view, from shardlog.Position, counter uint64) error {
	return &shardlog.TrimmedError{From: from, Oldest: shardlog.At(s.sequence(v.horizon, v.lastMs)), Missed: v.horizon - counter}
}

// atTime returns the counter of the first record that arrived at t or later.
func (s *Shard) atTime(v *view, t time.Time) (uint64, error) {
	// A record's arrival is a whole millisecond, so t is rounded up to one.
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	e, m, ok := v.findTime(ms)
	if !ok {
		return max(v.last+1, v.horizon), nil
	}
	b, err := s.load(e, m, true)
	if errors.Is(err, errTrimmed) {
		return s.atTime(s.view.Load(), t)
	}
	if err != nil {
		return 0, err
	}
	it, err := b.SeekTime(ms)
	if err != nil {
		return 0, s.corrupt(b.First, b.End(), err)
	}
	return max(it.Counter(), v.horizon), nil
}

// load returns the block that find found; shared says that it may come from
// the cache and is not to be changed.
func (s *Shard) load(e entry, m *memBlock, shared bool) (block.Block, error) {
	if m != nil {
		return m.b, nil
	}
	if shared {
		if b, ok := s.log.cache.get(s, e.first); ok {
			return b, nil
		}
	}
	value, err := s.log.store.Get(blockKey(s.id, &e))
	switch {
	case errors.Is(err, shardlog.ErrNotFound):
		if err := s.log.settled(); err != nil {
			return block.Block{}, err
		}
		if e.end() <= s.view.Load().horizon {
			return block.Block{}, errTrimmed
		}
		return block.Block{}, s.corrupt(e.first, e.end(), &block.DamageError{Offset: -1, Reason: "the block is missing"})
	case errors.Is(err, shardlog.ErrCorrupt):
		return block.Block{}, s.corrupt(e.first, e.end(), &block.DamageError{Offset: -1, Reason: err.Error()})
	case err != nil:
		return block.Block{}, err
	}
	b, err := s.log.coder.Decode(value)
	if err != nil {
		return block.Block{}, s.corrupt(e.first, e.end(), err)
	}
	if b.First != e.first || b.Count != e.count {
		return block.Block{}, s.corrupt(e.first, e.end(), &block.DamageError{Offset: 16, Reason: "the block is another than its key says"})
	}
	if shared {
		s.log.cache.put(s, b)
	}
	return b, nil
}

// settled returns when everything that the store has was published: retention
// removes blocks from the store before it moves the horizon of the view, so a
// block that is not found is missing only if it still is expected then.
func (l *Log) settled() error {
	return l.submit(context.Background(), &op{small: true, apply: func(*Tx) error { return nil }})
}

// errTrimmed says that retention removed a block between finding and reading.
var errTrimmed = errors.New("trimmed while reading")

func (s *Shard) corrupt(first, end uint64, err error) error {
	var d *block.DamageError
	c := &shardlog.CorruptError{
		Shard: s.name, First: s.sequence(first, 0), Last: s.sequence(end-1, 0), Offset: -1,
		Reason: err.Error(), Next: shardlog.At(s.sequence(end, 0)),
	}
	if errors.As(err, &d) {
		c.Offset, c.Reason = d.Offset, d.Reason
	}
	return c
}

// Read returns the records that follow req.From; see shardlog.ReadRequest for
// its bounds, whose faults are the caller's to find. Req.ShardID is not used.
// It waits at most req.Wait. Its errors are of the types of package shardlog,
// or that of ctx.
func (s *Shard) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	if err := ctx.Err(); err != nil {
		return shardlog.Page{}, shardlog.ContextError(ctx)
	}
	maxRecords, maxBytes := req.MaxRecords, req.MaxBytes
	if maxRecords <= 0 || maxRecords > maxPageRecords {
		maxRecords = maxPageRecords
	}
	if maxBytes <= 0 || maxBytes > maxPageBytes {
		maxBytes = maxPageBytes
	}
	if early(req.From) {
		start := time.Now()
		if v, err := s.untilDue(ctx, req.From, req.Wait); err != nil || !v.closed && early(req.From) {
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
			if !relative(req.From) {
				return shardlog.Page{}, s.trimmed(v, req.From, st.counter)
			}
			st = start{counter: v.horizon}
		}
		st = s.inside(v, st)
		p, err := s.page(v, st.counter, maxRecords, maxBytes)
		if !errors.Is(err, errTrimmed) {
			return p, err
		}
		v = s.view.Load()
	}
}

// relative tells whether a position is wherever the records are that retention
// has left, so that none of them is missed there.
func relative(p shardlog.Position) bool {
	return p.Kind() == shardlog.KindTrimHorizon || p.Kind() == shardlog.KindAtTime
}

// early tells whether a position is at a time to come: then nothing that is
// there, or comes until then, is behind it.
func early(p shardlog.Position) bool {
	return p.Kind() == shardlog.KindAtTime && p.Time().After(time.Now())
}

// untilDue waits for the time of an early position, the end of the shard, or
// the end of wait, and returns the view of that moment.
func (s *Shard) untilDue(ctx context.Context, p shardlog.Position, wait time.Duration) (*view, error) {
	v := s.view.Load()
	if wait <= 0 || v.closed {
		return v, nil
	}
	t := time.NewTimer(min(wait, time.Until(p.Time())))
	defer t.Stop()
	return s.waitFor(ctx, math.MaxUint64, t.C)
}

// inside makes a position inside of a record one before it if it is an
// aggregate, and else one after it, because no part of it is left. A record
// that is not there yet is decided about later, and damage where it is read.
func (s *Shard) inside(v *view, st start) start {
	if !st.partial {
		return st
	}
	e, m, ok := v.find(st.counter)
	if !ok {
		return st
	}
	st.partial = false
	b, err := s.load(e, m, true)
	if err != nil {
		return st
	}
	var item block.Item
	it, err := b.Seek(st.counter)
	if err == nil {
		ok, err = it.Next(&item)
	}
	if err == nil && ok && item.Counter == st.counter && !isAggregate(item.Data) {
		st.counter++
	}
	return st
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
				p.Records = make([]shardlog.Record, 0, room(&b, at, v.last, maxRecords, maxBytes))
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
	s.finish(&p, v, at)
	return p, nil
}

// room is how many records a page will have, as far as the first block of it
// tells: growing a page of many records costs more than filling it.
func room(b *block.Block, at, last uint64, maxRecords, maxBytes int) int {
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

// checkGap tells whether records are missing between the counter and the
// block that find returned for it: a block names the record before it, so a
// lost block does not go unnoticed.
func (s *Shard) checkGap(v *view, at uint64, b *block.Block) error {
	if b.First <= at || b.Prev < at || b.Prev < v.horizon {
		return nil
	}
	return s.corrupt(at, b.First, &block.DamageError{Offset: -1, Reason: "blocks are missing"})
}

// lostEnd tells whether a closed shard has lost its last records: find has
// nothing from the counter on, but it is known how far the shard went.
func (s *Shard) lostEnd(v *view, at uint64) error {
	if !v.closed || at > v.last {
		return nil
	}
	return s.corrupt(at, v.last+1, &block.DamageError{Offset: -1, Reason: "the last records of the shard are missing"})
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

// finish fills in what a page says about its place; at is the counter of the
// record that follows it.
func (s *Shard) finish(p *shardlog.Page, v *view, at uint64) {
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
		p.Behind = time.Duration(v.lastMs-since) * time.Millisecond
	}
}

// waitFor waits until the shard has a record with the counter or a later one,
// was closed, or the timer fired, and returns the view of that moment.
func (s *Shard) waitFor(ctx context.Context, counter uint64, timeout <-chan time.Time) (*view, error) {
	s.waiters.Add(1)
	defer s.waiters.Add(-1)
	for {
		changed := s.onChange()
		v := s.view.Load()
		if v.last >= counter || v.closed {
			return v, nil
		}
		select {
		case <-changed:
		case <-timeout:
			return s.view.Load(), nil
		case <-ctx.Done():
			return nil, shardlog.ContextError(ctx)
		case <-s.log.quit:
			return nil, shardlog.ErrClosed
		}
	}
}
