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
	ctx       context.Context
	cancel    context.CancelFunc
	slots     []slot
	queues    []*keyQueue // of the entries' keys
	bytes     int
	maxSlots  int // of slots, which entries that must be alone lower
	undecided int // entries without a result
	version   uint64
	noQueues  bool // its keys have no key queues, unless they had one before
	next      *request

	// What the sink is given; the slices are used again.
	records     []shardlog.Record
	ranges      []shardlog.HashRange
	numbers     []uint64
	arena       []byte // holds the aggregates
	epoch       uint64
	doneBelow   uint64
	notSent     bool  // an error of the last call came before the sink had the records
	sinkMayRead bool  // the sink may still be reading what it was given
	sent        int64 // when it was taken, in nanoseconds since New
	started     time.Time
	sends       int
	results     []shardlog.PutResult // of the last call
	err         error

	resendAt  int64 // when a parked request may be sent again
	heapIndex int   // in the parkHeap, when it is parked
}

// slot is a record of a request: one entry, or the aggregate of a chain.
type slot struct {
	first, last *entry
	n           int
	number      uint64
	shard       *shardState        // on which it should land; nil when that is not known
	span        shardlog.HashRange // of the hash keys of its entries; set with shard
	builder     *kpl.Builder       // until it is encoded; nil for an entry that is not to be aggregated
	aggregate   *shardlog.Record   // the aggregate, once it is encoded
	size        int
	wrapped     bool // the first entry must be inside an aggregate; see mustWrap
	inDoubt     bool // an attempt ended in an unknown outcome
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
		return &request{heapIndex: -1}
	}
	p.freeRequests, b.next = b.next, nil
	return b
}

// endRequest ends the use of a request: keys are free again.
func (p *Producer) endRequest(b *request) {
	for _, l := range b.queues {
		p.release(l)
	}
	clear(b.queues)
	clear(b.slots)
	b.queues, b.slots = b.queues[:0], b.slots[:0]
	b.bytes, b.undecided, b.sends, b.noQueues, b.sinkMayRead = 0, 0, 0, false, false
	b.results, b.err = nil, nil
	if p.withoutQueues == b {
		p.withoutQueues = nil
	}
	if cap(b.arena) > maxFreeArena {
		b.arena = nil
	}
	b.next, p.freeRequests = p.freeRequests, b
}

// createQueues makes the key queues of a request that went without. That is done only
// when there is a need, since most requests have none: there is no other one
// beside them, and no record fails.
func (p *Producer) createQueues(b *request) {
	if !b.noQueues {
		return
	}
	b.noQueues = false
	if p.withoutQueues == b {
		p.withoutQueues = nil
	}
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.nextInSlot {
			if e.queue != nil {
				continue
			}
			l := p.keys[e.hash]
			if l == nil {
				l = p.newKeyQueue(e.hash)
			}
			p.attach(b, e, l, i)
		}
	}
}

// attach notes that e, in a slot of b, has the key of a key queue.
func (p *Producer) attach(b *request, e *entry, l *keyQueue, slot int) {
	if l.carrier != b {
		l.carrier = b
		b.queues = append(b.queues, l)
	}
	l.lastSlot = slot
	e.queue = l
}

// maxFreeArena bounds the memory for aggregates that an idle request keeps.
const maxFreeArena = 1 << 20

// onSend makes b ready for a call of the sink.
func (p *Producer) onSend(b *request) {
	if t := p.opts.RequestTimeout; t > 0 {
		b.ctx, b.cancel = context.WithTimeoutCause(p.ctx, t, errTimeout)
	} else if b.ctx == nil || b.ctx.Err() != nil {
		// One that did not end serves the next request, too.
		b.ctx, b.cancel = context.WithCancel(p.ctx)
	}
	b.epoch, b.doneBelow = p.epoch, p.numbers.doneBelow
	b.sends++
	b.sent = p.now()
	p.lastSentAt = b.sent
	p.stats.requests++
	n := 0
	for i := range b.slots {
		n += b.slots[i].n
	}
	p.stats.slotsPerRequest.add(int64(len(b.slots)))
	p.stats.recordsPerRequest.add(int64(n))
}

// encode makes the records of a request, aggregates included. It is called
// without mu, because the digests take their time.
func (p *Producer) encode(b *request) {
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
		p.encodeSlot(b, s)
		if s.aggregate != nil {
			b.records = append(b.records, *s.aggregate)
		} else {
			e := s.first
			b.records = append(b.records, shardlog.Record{PartitionKey: e.key, Data: e.data})
			r := &b.records[i]
			if e.extras != nil {
				r.Headers, r.DedupID = e.extras.headers, e.extras.dedupID
			}
			if e.explicit || e.keyless || p.opts.Aggregation.Enabled {
				r.ExplicitHashKey = e.hashKey
			}
		}
		if p.opts.ID != "" {
			b.numbers = append(b.numbers, s.number)
		}
		if p.sendsRanges {
			b.ranges = append(b.ranges, s.span)
		}
	}
}

// goesPlain tells whether a record of an aggregate goes without: one alone does, if
// it need not be wrapped.
func (s *slot) goesPlain() bool { return s.n == 1 && !s.wrapped }

// hasMagic tells whether data begins as an aggregate does.
func hasMagic(data []byte) bool {
	return len(data) >= len(kpl.Magic) && string(data[:len(kpl.Magic)]) == kpl.Magic
}

func (p *Producer) encodeSlot(b *request, s *slot) {
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

// resendHeap is a container/heap of requests by when they may be sent again.
type resendHeap []*request

func (h resendHeap) Len() int           { return len(h) }
func (h resendHeap) Less(i, j int) bool { return h[i].resendAt < h[j].resendAt }
func (h resendHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (h *resendHeap) Push(x any) {
	b := x.(*request)
	b.heapIndex = len(*h)
	*h = append(*h, b)
}

// Pop implements heap.Interface.
func (h *resendHeap) Pop() any {
	n := len(*h) - 1
	b := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	b.heapIndex = -1
	return b
}

// holdForResend keeps a request whose outcome is not known for a second send. Its keys
// stay in use meanwhile, so nothing can come before it.
func (p *Producer) holdForResend(b *request, due int64) {
	b.results, b.err = nil, nil
	b.resendAt = due
	heap.Push(&p.inDoubt, b)
}

// dropInDoubt ends a parked request that no one waits for any more.
func (p *Producer) dropInDoubt(b *request) {
	heap.Remove(&p.inDoubt, b.heapIndex)
	for i := range b.slots {
		p.numbers.retire(b.slots[i].number)
	}
	p.endRequest(b)
}

// nextResend takes a parked request whose time has come.
func (p *Producer) nextResend(now int64) *request {
	if len(p.inDoubt) == 0 || p.inDoubt[0].resendAt > now {
		return nil
	}
	b := heap.Pop(&p.inDoubt).(*request)
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.nextInSlot {
			if e.state == awaitsResend {
				e.state = inRequest
				e.attempts++
			}
		}
	}
	p.onSend(b)
	return b
}
