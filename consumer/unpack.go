package consumer

import (
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// emit hands a page on, de-aggregated and filtered, as one chunk or, if it has
// aggregated records, as several that are no larger than a batch. It returns
// false when the reading was ended.
func (f *fetcher) emit(p *shardlog.Page) bool {
	defer func() { f.next = endOfPage(p) }()
	e := emitter{f: f, page: p}
	packed := false
	for i := range p.Records {
		packed = packed || f.aggregate(&p.Records[i])
	}
	if !packed {
		e.records = f.undone(p.Records)
		return e.send(endOfPage(p), p.End)
	}
	for i := range p.Records {
		r := &p.Records[i]
		e.left = len(p.Records) - i
		if !f.aggregate(r) || !e.unpack(r) {
			if f.isUndoneWhole(r) {
				if slot := e.add(r.Size()); slot != nil {
					*slot = *r
				}
			}
		}
		e.at = shardlog.After(r.Sequence)
		if e.stopped {
			return false
		}
	}
	return e.send(endOfPage(p), p.End)
}

// aggregate reports whether a record may be an aggregated one. One that comes
// from a source that de-aggregates them itself is none.
func (f *fetcher) aggregate(r *shardlog.Record) bool {
	return !f.t.r.o.KeepAggregates && kpl.HasMagic(r.Data) && r.SubSequence == 0
}

// isUndone reports whether a record is behind the place inside an aggregated
// record where the reading began.
func (f *fetcher) isUndone(seq shardlog.SequenceNumber, sub uint32) bool {
	return seq != f.skip.Sequence() || f.skip.Kind() != shardlog.KindAfter ||
		f.skip.SubSequence() != shardlog.WholeRecord && int64(sub) > f.skip.SubSequence()
}

// isUndoneWhole is isUndone for a record that is delivered as it is stored. An
// aggregated one, which is kept or damaged, is undone unless all of it is done:
// the reading began inside it because an earlier worker could de-aggregate it,
// with other options or a sound copy.
func (f *fetcher) isUndoneWhole(r *shardlog.Record) bool {
	return f.isUndone(r.Sequence, r.SubSequence) || f.skip.SubSequence() != shardlog.WholeRecord && r.SubSequence == 0 && kpl.HasMagic(r.Data)
}

// isBegun reports whether the reading began inside the record. An earlier worker
// delivered a part of it then, without Options.WholeAggregates, and dropped what
// is outside the shard's range; what it left is in nobody else's care.
func (f *fetcher) isBegun(r *shardlog.Record) bool {
	return f.skip.Kind() == shardlog.KindAfter && f.skip.Sequence() == r.Sequence && f.skip.SubSequence() != shardlog.WholeRecord
}

// undone cuts off the records up to that place. All are delivered as they are
// stored.
func (f *fetcher) undone(records []shardlog.Record) []shardlog.Record {
	if f.skip.Kind() != shardlog.KindAfter {
		return records
	}
	for len(records) > 0 && !f.isUndoneWhole(&records[0]) {
		records = records[1:]
	}
	return records
}

// emitter collects records and sends them on in chunks.
type emitter struct {
	f       *fetcher
	page    *shardlog.Page
	records []shardlog.Record
	size    int
	left    int               // of the page, as they are stored
	each    int               // user records of the last aggregated one
	at      shardlog.Position // after the last record
	stopped bool
}

// add returns the memory for a record of a size, which is zero, and sends a
// chunk first when it is full. It returns nil when the reading was ended.
func (e *emitter) add(size int) *shardlog.Record {
	o := e.f.t.r.o
	if n := len(e.records); n >= o.MaxBatchRecords || n > 0 && e.size+size > o.MaxBatchBytes {
		e.stopped = e.stopped || !e.send(e.at, false)
	}
	if e.stopped {
		return nil
	}
	if e.records == nil {
		// The best guess is that the others are like this one.
		e.records = make([]shardlog.Record, 0, max(1, min(e.left*max(1, e.each), o.MaxBatchRecords, o.MaxBatchBytes/max(1, size)+1)))
	}
	e.records = append(e.records, shardlog.Record{})
	e.size += size
	return &e.records[len(e.records)-1]
}

// send hands on what was collected.
func (e *emitter) send(next shardlog.Position, end bool) bool {
	p := e.page
	c := &chunk{
		records: e.records, next: next, end: end, behind: p.Behind, behindRecords: p.BehindRecords,
		none: len(p.Records) == 0, idle: len(p.Records) == 0 && !p.End,
	}
	if end {
		c.children = p.Children
	}
	e.records, e.size = nil, 0
	e.f.filter(c)
	c.size = sizeOf(c.records)
	return e.f.hand(c)
}

// unpack adds the user records of an aggregated record. It returns false when
// it is none, or damaged: then it is delivered as it is, never in part.
func (e *emitter) unpack(r *shardlog.Record) bool {
	t := e.f.t
	a, err := kpl.Parse(r.Data)
	if err != nil {
		var d *kpl.DecodeError
		if errors.As(err, &d) && d.Cause == kpl.BadDigest {
			t.r.update(t.id, func(s *shard) { s.stats.BadDigests++ })
			return false
		}
		t.r.update(t.id, func(s *shard) { s.stats.DamagedAggregates++ })
		t.r.emit(Event{Kind: EventAggregateDamaged, ShardID: t.id, Epoch: t.epoch, Position: shardlog.At(r.Sequence), Err: err})
		return false
	}
	outside := uint64(0)
	if t.r.o.WholeAggregates && !e.f.isBegun(r) && !e.allInside(r) {
		outside = uint64(a.Len())
		a = nil
	}
	if a != nil {
		e.each = a.Len()
	}
	var buf [64]kpl.UserRecord
	for sub := uint32(0); a != nil && !e.stopped; {
		got := a.Next(buf[:0], len(buf))
		if len(got) == 0 {
			break
		}
		for i := range got {
			u := &got[i]
			if !t.inside(u) {
				outside++
			} else if e.f.isUndone(r.Sequence, sub) {
				e.addUser(r, u, sub)
			}
			e.at = shardlog.AfterSub(r.Sequence, sub)
			sub++
		}
	}
	if outside > 0 {
		t.r.update(t.id, func(s *shard) { s.stats.OutOfRange += outside })
	}
	return true
}

// addUser adds a user record of an aggregated one.
func (e *emitter) addUser(r *shardlog.Record, u *kpl.UserRecord, sub uint32) {
	size := len(u.PartitionKey) + len(u.Data)
	for i := range u.Headers {
		size += len(u.Headers[i].Key) + len(u.Headers[i].Value)
	}
	if slot := e.add(size); slot != nil {
		slot.PartitionKey, slot.ExplicitHashKey, slot.Data, slot.Headers = u.PartitionKey, u.HashKey, u.Data, u.Headers
		slot.Sequence, slot.SubSequence, slot.ShardID, slot.Arrival = r.Sequence, sub, r.ShardID, r.Arrival
	}
}

// allInside reports whether every user record belongs to the shard.
func (e *emitter) allInside(r *shardlog.Record) bool {
	a, err := kpl.Parse(r.Data)
	if err != nil {
		return false
	}
	var buf [64]kpl.UserRecord
	for {
		got := a.Next(buf[:0], len(buf))
		if len(got) == 0 {
			return true
		}
		for i := range got {
			if !e.f.t.inside(&got[i]) {
				return false
			}
		}
	}
}
