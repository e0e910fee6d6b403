package producer

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// request is a call of the sink, or more than one if answers are lost.
type request struct {
	ctx     context.Context
	cancel  context.CancelFunc
	slots   []slot
	lanes   []*lane // of the entries' keys
	bytes   int
	limit   int // of slots, which entries that must be alone lower
	live    int // entries without a result
	version uint64
	noLanes bool // its keys have no lanes, unless they had one before
	next    *request

	// What the sink is given; the slices are used again.
	records []shardlog.Record
	ranges  []shardlog.HashRange
	numbers []uint64
	arena   []byte // holds the aggregates
	epoch   uint64
	done    uint64
	unsent  bool  // an error of the last call came before the sink had the records
	left    bool  // the sink may still be reading what it was given
	sent    int64 // when it was taken, in nanoseconds since New
	started time.Time
	sends   int
	results []shardlog.PutResult // of the last call
	err     error

	due   int64 // when a parked request may be sent again
	index int   // in the parkHeap, when it is parked
}

// slot is a record of a request: one entry, or the aggregate of a chain.
type slot struct {
	first, last *entry
	n           int
	number      uint64
	shard       *shardState        // on which it should land; nil when that is not known
	span        shardlog.HashRange // of the hash keys of its entries; set with shard
	build       *kpl.Builder       // until it is encoded; nil for an entry that is not to be aggregated
	record      *shardlog.Record   // the aggregate, once it is encoded
	size        int
	maybe       bool // an attempt ended in an unknown outcome
}

// builders are those of aggregates that are done.
var builders = sync.Pool{New: func() any { return new(kpl.Builder) }}

// addSlot appends an empty slot. Those behind the last one are.
func (b *request) addSlot() *slot {
	n := len(b.slots)
	if n < cap(b.slots) {
		b.slots = b.slots[:n+1]
	} else {
		b.slots = append(b.slots, slot{})
	}
	return &b.slots[n]
}

// newRequest returns an empty request.
func (p *Producer) newRequest() *request {
	b := p.freeRequests
	if b == nil {
		return &request{index: -1}
	}
	p.freeRequests, b.next = b.next, nil
	return b
}

// endRequest ends the use of a request: keys are free again.
func (p *Producer) endRequest(b *request) {
	for _, l := range b.lanes {
		p.release(l)
	}
	clear(b.lanes)
	clear(b.slots)
	b.lanes, b.slots = b.lanes[:0], b.slots[:0]
	b.bytes, b.live, b.sends, b.noLanes, b.left = 0, 0, 0, false, false
	b.results, b.err = nil, nil
	if p.lazy == b {
		p.lazy = nil
	}
	if cap(b.arena) > maxFreeArena {
		b.arena = nil
	}
	b.next, p.freeRequests = p.freeRequests, b
}

// register makes the lanes of a request that went without. That is done only
// when there is a need, since most requests have none: there is no other one
// beside them, and no record fails.
func (p *Producer) register(b *request) {
	if !b.noLanes {
		return
	}
	b.noLanes = false
	if p.lazy == b {
		p.lazy = nil
	}
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.mate {
			if e.lane != nil {
				continue
			}
			l := p.keys[e.hash]
			if l == nil {
				l = p.newLane(e.hash)
			}
			p.enterLane(b, e, l, i)
		}
	}
}

// enterLane notes that e, in a slot of b, has the key of a lane.
func (p *Producer) enterLane(b *request, e *entry, l *lane, slot int) {
	if l.req != b {
		l.req = b
		b.lanes = append(b.lanes, l)
	}
	l.slot = slot
	e.lane = l
}

// maxFreeArena bounds the memory for aggregates that an idle request keeps.
const maxFreeArena = 1 << 20

// begin makes b ready for a call of the sink.
func (p *Producer) begin(b *request) {
	if t := p.opts.RequestTimeout; t > 0 {
		b.ctx, b.cancel = context.WithTimeoutCause(p.ctx, t, errTimeout)
	} else if b.ctx == nil || b.ctx.Err() != nil {
		// One that did not end serves the next request, too.
		b.ctx, b.cancel = context.WithCancel(p.ctx)
	}
	b.epoch, b.done = p.epochNumber, p.numbers.done
	b.sends++
	b.sent = p.now()
	p.lastSent = b.sent
	p.stats.requests++
	n := 0
	for i := range b.slots {
		n += b.slots[i].n
	}
	p.stats.storedPerRequest.add(int64(len(b.slots)))
	p.stats.perRequest.add(int64(n))
}

// compose makes the records of a request, aggregates included. It is called
// without mu, because the digests take their time.
func (p *Producer) compose(b *request) {
	total := 0
	for i := range b.slots {
		if s := &b.slots[i]; s.build != nil && !s.raw() {
			total += s.build.Size()
		}
	}
	if free := cap(b.arena) - len(b.arena); free < total {
		b.arena = make([]byte, 0, total)
	}
	for i := range b.slots {
		s := &b.slots[i]
		p.encode(b, s)
		if s.record != nil {
			b.records = append(b.records, *s.record)
		} else {
			e := s.first
			b.records = append(b.records, shardlog.Record{PartitionKey: e.key, Data: e.data})
			r := &b.records[i]
			if e.more != nil {
				r.Headers, r.DedupID = e.more.headers, e.more.dedupID
			}
			if e.explicit || e.keyless || p.opts.Aggregation.Enabled {
				r.ExplicitHashKey = e.hashKey
			}
		}
		if p.opts.ID != "" {
			b.numbers = append(b.numbers, s.number)
		}
		if p.ranges {
			b.ranges = append(b.ranges, s.span)
		}
	}
}

// raw tells whether a record of an aggregate goes without: one alone does, if
// nobody can take it for an aggregate.
func (s *slot) raw() bool { return s.n == 1 && !hasMagic(s.first.data) }

// hasMagic tells whether data begins as an aggregate does.
func hasMagic(data []byte) bool {
	return len(data) >= len(kpl.Magic) && string(data[:len(kpl.Magic)]) == kpl.Magic
}

func (p *Producer) encode(b *request, s *slot) {
	if s.build == nil {
		return
	}
	if !s.raw() {
		from := len(b.arena)
		b.arena = s.build.Append(b.arena)
		// The hash key says where the aggregate belongs, whatever hash the
		// sink uses for partition keys.
		s.record = &shardlog.Record{PartitionKey: s.first.key, ExplicitHashKey: s.first.hashKey, Data: b.arena[from:len(b.arena):len(b.arena)], DedupID: s.first.dedupID()}
	} else {
		s.size = s.first.size
	}
	s.build.Reset()
	builders.Put(s.build)
	s.build = nil
}

// parkHeap is a container/heap of requests by when they may be sent again.
type parkHeap []*request

func (h parkHeap) Len() int           { return len(h) }
func (h parkHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h parkHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *parkHeap) Push(x any) {
	b := x.(*request)
	b.index = len(*h)
	*h = append(*h, b)
}

// Pop implements heap.Interface.
func (h *parkHeap) Pop() any {
	n := len(*h) - 1
	b := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	b.index = -1
	return b
}

// park keeps a request whose outcome is not known for a second send. Its keys
// stay in use meanwhile, so nothing can come before it.
func (p *Producer) park(b *request, due int64) {
	b.results, b.err = nil, nil
	b.due = due
	heap.Push(&p.parked, b)
}

// unpark ends a parked request that no one waits for any more.
func (p *Producer) unpark(b *request) {
	heap.Remove(&p.parked, b.index)
	for i := range b.slots {
		p.numbers.settle(b.slots[i].number)
	}
	p.endRequest(b)
}

// resume takes a parked request whose time has come.
func (p *Producer) resume(now int64) *request {
	if len(p.parked) == 0 || p.parked[0].due > now {
		return nil
	}
	b := heap.Pop(&p.parked).(*request)
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.mate {
			if e.state == parked {
				e.state = sending
				e.attempts++
			}
		}
	}
	p.begin(b)
	return b
}
