package producer

import (
	"container/heap"
	"math"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// This file decides when a request is sent and what is in it.

// startSender starts a sender if there is something to send.
func (p *Producer) startSender(now int64) {
	if p.senders < p.opts.MaxInFlight && p.nextDue(p.senders) <= now {
		p.senders++
		p.starting++
		p.lastSentAt = now
		go p.runSender()
	}
}

// never is when nothing is due that is not brought about by something else.
const never = math.MaxInt64

// nextDue is when a request should be sent while there are others.
func (p *Producer) nextDue(others int) int64 {
	at := int64(never)
	if len(p.inDoubt) > p.starting {
		at = p.inDoubt[0].resendAt
	}
	if !p.outOfNumbers() {
		at = min(at, p.nextNewDue(others))
	}
	if others > 0 {
		at = max(at, p.lastSentAt+int64(stagger))
	}
	return at
}

// nextNewDue is due for a request that was not sent before.
func (p *Producer) nextNewDue(others int) int64 {
	at := int64(never)
	switch backlog := max(p.ready.bytes/p.opts.MaxBatchBytes, p.ready.n/p.fullRequest); {
	case backlog > p.starting, p.ready.n > 0 && others == 0 && p.ready.head.seq <= p.flushUpTo:
		at = 0
	case p.starting > 0: // will take what there is
		return never
	case p.ready.n > 0:
		at = p.ready.head.born + p.holdBack(others)
	}
	if others > 0 {
		at = max(at, p.contendedUntil)
	}
	if p.starting == 0 && p.runnable.head != nil {
		at = 0
	}
	if p.starting == 0 && p.limitedUntil > 0 {
		at = min(at, p.limitedUntil)
	}
	return at
}

// stagger is how long after a request another one may be started beside it. A
// sink that answers faster than that, as one in the same process does, gets one
// after the other, which costs less than any overlap gains.
const stagger = time.Millisecond

// outOfNumbers tells whether a new request would have to wait for numbers.
func (p *Producer) outOfNumbers() bool { return p.opts.ID != "" && p.numbers.exhausted() }

// holdBack is how long a record may be held back while others are in flight.
func (p *Producer) holdBack(others int) int64 {
	if others == 0 {
		return int64(p.opts.Linger)
	}
	return max(int64(patience), int64(p.opts.Linger))
}

// nextRequest returns a request for one of the senders, which may be fresh from kick;
// nil if nothing is to be sent now.
func (p *Producer) nextRequest(fresh bool) *request {
	now := p.now()
	p.expire(now)
	p.promoteRetries(now)
	if b := p.nextResend(now); b != nil {
		return b
	}
	if p.outOfNumbers() || p.nextNewDue(p.senders-1) > now {
		return nil
	}
	if !fresh && p.senders > 1 && now < p.lastSentAt+int64(stagger) {
		return nil
	}
	b := p.newRequest()
	b.maxSlots, b.version = p.opts.MaxBatchRecords, p.shards.version
	if p.withoutQueues != nil {
		p.createQueues(p.withoutQueues)
	}
	b.noQueues = p.senders-p.starting == 1 && !p.strict && p.opts.Limits == (Limits{})
	f := filling{b: b, now: now, clock: time.Now()}
	if p.fillFromRunnable(&f) && p.fillFromLimited(&f) {
		p.fillFromReady(&f)
	}
	p.limitedUntil = p.nextLimited()
	for i := range b.slots {
		if s := b.slots[i].shard; s != nil {
			s.openSlot = -1
		}
	}
	if len(b.slots) == 0 {
		p.endRequest(b)
		return nil
	}
	if b.noQueues {
		p.withoutQueues = b
	}
	p.onSend(b)
	return b
}

// filling is a request while it is filled.
type filling struct {
	b     *request
	now   int64
	clock time.Time
}

// fit says whether a request takes an entry.
type fit uint8

const (
	fits    fit = iota
	full        // the request takes nothing more
	later       // the key's earlier records have to be stored first
	limited     // the shard's limit is reached
)

// fillFromRunnable takes from key queues that may go; it returns false when the request is
// full.
func (p *Producer) fillFromRunnable(f *filling) bool {
	for p.runnable.head != nil {
		if !p.fillFromQueue(f, p.runnable.pop()) {
			return false
		}
	}
	return true
}

func (p *Producer) fillFromQueue(f *filling, l *keyQueue) bool {
	for e := l.entries.head; e != nil; e = l.entries.head {
		if e.state == resultHeld {
			if l.carrier == f.b {
				return true // after the one before it
			}
			p.decide(e, &e.outcome.res, e.outcome.err)
			continue
		}
		switch s, fit := p.place(f, e, l); {
		case fit == fits:
		case l.carrier == f.b: // it comes back when the request does
			return fit != full
		case fit == limited:
			s.limited.pushFront(l) // from which it came, if it did
			return true
		default:
			p.runnable.pushFront(l)
			return false
		}
	}
	if l.carrier != f.b {
		p.dropKeyQueue(l)
	}
	return true
}

// fillFromLimited takes from key queues that waited for a shard's limit.
func (p *Producer) fillFromLimited(f *filling) bool {
	if p.limitedUntil == 0 {
		return true
	}
	for _, s := range p.shards.open {
		for s.limited.head != nil && s.limitedUntil <= f.now {
			l := s.limited.pop()
			if !p.fillFromQueue(f, l) {
				return false
			}
		}
	}
	return true
}

// nextLimited is when the first of the key queues that wait for a limit may go; 0 if
// none does.
func (p *Producer) nextLimited() (at int64) {
	if p.opts.Limits == (Limits{}) {
		return 0
	}
	for _, s := range p.shards.open {
		if s.limited.head != nil && (at == 0 || s.limitedUntil < at) {
			at = s.limitedUntil
		}
	}
	return at
}

// fewBusy is how many entries of keys in use are moved out of the way for others.
const maxMoved = 64

// fillFromReady takes from what arrived; entries whose key is in use go into its
// key queue. With few keys most are in use by the requests in flight, and what has
// arrived may be much: it is left where it is then, and handled once, until one
// of them returns or takes long.
func (p *Producer) fillFromReady(f *filling) {
	moved := 0
	for e := p.ready.head; e != nil; e = p.ready.head {
		var l *keyQueue
		if len(p.keys) > 0 {
			l = p.keys[e.hash]
		}
		if l != nil && (l.carrier != f.b || l.entries.n > 0) {
			if l.carrier != nil && l.carrier != f.b && f.now-l.carrier.sent < int64(patience) {
				moved++
			}
			if moved > maxMoved || moved > 0 && len(f.b.slots) > p.opts.MaxBatchRecords/2 {
				p.contendedUntil = f.now + int64(patience)
				return
			}
			p.ready.remove(e)
			l.entries.push(e)
			continue
		}
		if l == nil && !f.b.noQueues {
			l = p.newKeyQueue(e.hash)
		}
		switch s, fit := p.place(f, e, l); fit {
		case full:
			if l != nil && l.carrier != f.b {
				p.dropKeyQueue(l)
			}
			return
		case later, limited:
			p.ready.remove(e)
			l.entries.push(e)
			if l.carrier != f.b {
				s.limited.push(l)
			}
		}
	}
}

// place puts e into the request if it fits. The shard is the one on which it
// should land; nil when that is not known.
func (p *Producer) place(f *filling, e *entry, l *keyQueue) (*shardState, fit) {
	s, at, fit := p.findSlot(f, e, l)
	for n := 0; fit == limited && e.keyless && n < len(p.shards.open); n++ {
		p.sticky.left = 0 // there are other shards
		s, at, fit = p.findSlot(f, e, l)
	}
	if fit != fits {
		return s, fit
	}
	b := f.b
	e.in.remove(e)
	if e.queue = nil; l != nil {
		p.attach(b, e, l, at)
	}
	b.undecided++
	e.state, e.carrier = inRequest, b
	if e.attempts++; e.attempts == 1 {
		p.stats.buffering.add(time.Duration(f.now - e.born))
	}
	return s, fits
}

// findSlot finds or makes the record of the request that e goes into.
func (p *Producer) findSlot(f *filling, e *entry, l *keyQueue) (s *shardState, at int, fit fit) {
	if p.needsShards {
		if e.keyless {
			p.placeKeyless(e)
		}
		s = p.shards.find(e.hashKey)
	}
	if s != nil {
		if s.limitedUntil > f.now {
			return s, -1, limited
		}
		if at, fit = p.joinAggregate(f, e, l, s); fit != fits || at >= 0 {
			return s, at, fit
		}
	}
	at, fit = p.openSlot(f, e, l, s)
	return s, at, fit
}

// aggregates tells whether e may be a part of an aggregate.
func (p *Producer) aggregates(e *entry) bool {
	return p.opts.Aggregation.Enabled && !e.notAggregated && e.maxSlots == 0 && e.dedupID() == ""
}

// joinAggregate puts e into the aggregate for its shard, if there is one with room;
// otherwise the index is negative.
func (p *Producer) joinAggregate(f *filling, e *entry, l *keyQueue, s *shardState) (int, fit) {
	if s.openSlot < 0 || !p.aggregates(e) {
		return -1, fits
	}
	at := s.openSlot
	sl := &f.b.slots[at]
	if a := p.opts.Aggregation; a.MaxCount > 0 && sl.n >= a.MaxCount {
		return -1, fits
	}
	if p.strict && l.carrier == f.b && l.lastSlot != at {
		return -1, later
	}
	before := sl.builder.Size()
	if p.overLimit(f, s, 0, e.size) {
		return -1, limited
	}
	if !sl.builder.Add(e.asUserRecord(), min(p.opts.Aggregation.MaxSize, before+p.opts.MaxBatchBytes-f.b.bytes)) {
		return -1, fits
	}
	sl.last.nextInSlot, sl.last = e, e
	sl.n++
	grown := sl.builder.Size() - before
	s.limit.consume(f.clock, 0, grown)
	sl.size += grown
	f.b.bytes += grown
	if e.hashKey.Compare(sl.span.First) < 0 {
		sl.span.First = e.hashKey
	}
	if e.hashKey.Compare(sl.span.Last) > 0 {
		sl.span.Last = e.hashKey
	}
	return at, fits
}

// overLimit tells whether the shard takes no more, and if so, until when.
func (p *Producer) overLimit(f *filling, s *shardState, records, bytes int) bool {
	wait := s.limit.delay(f.clock, records, bytes)
	if wait > 0 {
		s.limitedUntil = f.now + int64(wait)
	}
	return wait > 0
}

// openSlot begins a record of the request with e.
func (p *Producer) openSlot(f *filling, e *entry, l *keyQueue, s *shardState) (int, fit) {
	b := f.b
	limit := b.maxSlots
	if e.maxSlots > 0 {
		limit = min(limit, int(e.maxSlots))
	}
	size, wrap := e.size, p.mustWrap(e.data, e.headers())
	if wrap {
		size = kpl.Alone(e.asUserRecord()) + len(e.key)
	}
	at := len(b.slots)
	if at >= limit || at > 0 && b.bytes+size > p.opts.MaxBatchBytes || p.outOfNumbers() {
		return -1, full
	}
	if p.strict && l.carrier == b {
		return -1, later
	}
	if s != nil {
		if p.overLimit(f, s, 1, e.size) {
			return -1, limited
		}
		s.openSlot = -1 // what comes behind must not be stored before it
	}
	sl := b.addSlot()
	sl.first, sl.last, sl.n, sl.shard, sl.size, sl.wrapped = e, e, 1, s, e.size, wrap
	if p.needsShards {
		sl.span = shardlog.HashRange{First: e.hashKey, Last: e.hashKey}
	}
	if more := s != nil && p.aggregates(e); more || wrap {
		build := builders.Get().(*kpl.Builder)
		most := p.opts.Aggregation.MaxSize
		if wrap {
			most = math.MaxInt
		}
		if build.Add(e.asUserRecord(), most) {
			sl.builder, sl.size = build, build.Size()+len(e.key)
		} else {
			builders.Put(build)
			more = false
		}
		if more {
			s.openSlot = at
		}
	}
	if s != nil {
		s.limit.consume(f.clock, 1, sl.size)
	}
	if p.opts.ID != "" {
		sl.number = p.numbers.assign()
	}
	b.maxSlots = limit
	b.bytes += sl.size
	return at, fits
}

// promoteRetries lets the retries go whose time has come.
func (p *Producer) promoteRetries(now int64) {
	for len(p.retries) > 0 && p.retries[0].retryAt <= now {
		l := heap.Pop(&p.retries).(*keyQueue)
		l.retryAt = 0
		if l.entries.n == 0 {
			p.dropKeyQueue(l)
		} else {
			p.runnable.push(l)
		}
	}
}
