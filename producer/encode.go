package producer

import (
	"github.com/shardlog/shardlog"
)

// encode makes the records of a request, aggregates included. The sender calls
// it without Producer.mu, because the digests of aggregates are most of the
// work on them. A request that is sent again keeps its aggregates.
func (b *request) encode(conf *config) {
	if b.page != nil {
		if !b.page.encoded {
			b.encodePage()
		}
		return
	}
	total := 0
	for i := range b.slots {
		if s := &b.slots[i]; s.builder != nil && !s.goesPlain() {
			total += s.builder.Size()
		}
	}
	if free := cap(b.arena) - len(b.arena); free < total {
		b.arena = make([]byte, 0, total)
	}
	for i := range b.slots {
		s := &b.slots[i]
		b.encodeSlot(s)
		if s.aggregate != nil {
			b.records = append(b.records, *s.aggregate)
		} else {
			b.records = append(b.records, plainRecord(s.first, conf))
		}
		if conf.ID != "" {
			b.numbers = append(b.numbers, s.number)
		}
		if conf.sendsRanges {
			b.ranges = append(b.ranges, s.span)
		}
	}
}

// encodePage makes the records of a request whose records are in a page.
func (b *request) encodePage() {
	for i := range b.page.items {
		it := &b.page.items[i]
		b.records = append(b.records, shardlog.Record{PartitionKey: it.key, ExplicitHashKey: b.page.hashKey(i), Data: it.data()})
	}
}

// plainRecord returns the record of an entry that is not in an aggregate.
func plainRecord(e *entry, conf *config) shardlog.Record {
	r := shardlog.Record{PartitionKey: e.key, Data: e.data}
	if e.extras != nil {
		r.Headers, r.DedupID = e.extras.headers, e.extras.dedupID
	}
	if e.explicit || e.keyless || conf.Aggregation.Enabled {
		r.ExplicitHashKey = e.hashKey
	}
	return r
}

// goesPlain reports whether a slot that could be an aggregate is stored as a
// plain record: with one entry it is, unless readers would take that for an
// aggregate.
func (s *slot) goesPlain() bool { return s.n == 1 && !s.wrapped }

// encodeSlot writes the slot's aggregate into the arena, if it has one that is
// not written yet.
func (b *request) encodeSlot(s *slot) {
	if s.builder == nil {
		return
	}
	if !s.goesPlain() {
		from := len(b.arena)
		b.arena = s.builder.Append(b.arena)
		// The hash key says where the aggregate belongs, whatever hash the
		// sink uses for partition keys.
		s.aggregate = &shardlog.Record{PartitionKey: s.first.key, ExplicitHashKey: s.first.hashKey, Data: b.arena[from:len(b.arena):len(b.arena)], DedupID: s.first.dedupID()}
	} else {
		s.size = s.first.size
	}
	s.builder.Reset()
	builders.Put(s.builder)
	s.builder = nil
}
