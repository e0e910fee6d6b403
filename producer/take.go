package producer

import (
	"container/heap"
	"math"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// This file decides when a request is sent and what is in it.

// kick starts a sender if there is something to send.
func (p *Producer) kick(now int64) {
	if p.senders < p.opts.MaxInFlight && p.due(p.senders) <= now {
		p.senders++
		p.starting++
		p.lastSent = now
		go p.run()
	}
}

// never is when nothing is due that is not brought about by something else.
const never = math.MaxInt64

// due is when a request should be sent while there are others.
func (p *Producer) due(others int) int64 {
	at := int64(never)
	if len(p.parked) > p.starting {
		at = p.parked[0].due
	}
	if !p.stuck() {
		at = min(at, p.dueNew(others))
	}
	if others > 0 {
		at = max(at, p.lastSent+int64(stagger))
	}
	return at
}

// dueNew is due for a request that was not sent before.
func (p *Producer) dueNew(others int) int64 {
	at := int64(never)
	switch backlog := max(p.ready.bytes/p.opts.MaxBatchBytes, p.ready.n/p.batch); {
	case backlog > p.starting, p.ready.n > 0 && others == 0 && p.ready.head.seq <= p.urgent:
		at = 0
	case p.starting > 0: // will take what there is
		return never
	case p.ready.n > 0:
		at = p.ready.head.born + p.wait(others)
	}
	if others > 0 {
		at = max(at, p.crowded)
	}
	if p.starting == 0 && p.sendq.head != nil {
		at = 0
	}
	if p.starting == 0 && p.blockedUntil > 0 {
		at = min(at, p.blockedUntil)
	}
	return at
}

// stagger is how long after a request another one may be started beside it. A
// sink that answers faster than that, as one in the same process does, gets one
// after the other, which costs less than any overlap gains.
const stagger = time.Millisecond

// stuck tells whether a new request would have to wait for numbers.
func (p *Producer) stuck() bool { return p.opts.ID != "" && p.numbers.full() }

// wait is how long a record may be held back while others are in flight.
func (p *Producer) wait(others int) int64 {
	if others == 0 {
		return int64(p.opts.Linger)
	}
	return max(int64(patience), int64(p.opts.Linger))
}

// take returns a request for one of the senders, which may be fresh from kick;
// nil if nothing is to be sent now.
func (p *Producer) take(fresh bool) *request {
	now := p.now()
	p.expire(now)
	p.promote(now)
	if b := p.resume(now); b != nil {
		return b
	}
	if p.stuck() || p.dueNew(p.senders-1) > now {
		return nil
	}
	if !fresh && p.senders > 1 && now < p.lastSent+int64(stagger) {
		return nil
	}
	b := p.newRequest()
	b.limit, b.version = p.opts.MaxBatchRecords, p.shards.version
	if p.lazy != nil {
		p.register(p.lazy)
	}
	b.noLanes = p.senders-p.starting == 1 && !p.strict && p.opts.Limits == (Limits{})
	f := filling{b: b, now: now, clock: time.Now()}
	if p.takeLanes(&f) && p.takeBlocked(&f) {
		p.takeReady(&f)
	}
	p.blockedUntil = p.nextFree()
	for i := range b.slots {
		if s := b.slots[i].shard; s != nil {
			s.slot = -1
		}
	}
	if len(b.slots) == 0 {
		p.endRequest(b)
		return nil
	}
	if b.noLanes {
		p.lazy = b
	}
	p.begin(b)
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

// takeLanes takes from lanes that may go; it returns false when the request is
// full.
func (p *Producer) takeLanes(f *filling) bool {
	for p.sendq.head != nil {
		if !p.takeLane(f, p.sendq.pop()) {
			return false
		}
	}
	return true
}

func (p *Producer) takeLane(f *filling, l *lane) bool {
	for e := l.waiting.head; e != nil; e = l.waiting.head {
		if e.state == settled {
			if l.req == f.b {
				return true // after the one before it
			}
			p.decide(e, &e.out.res, e.out.err)
			continue
		}
		switch s, fit := p.add(f, e, l); {
		case fit == fits:
		case l.req == f.b: // it comes back when the request does
			return fit != full
		case fit == limited:
			s.blocked.pushFront(l) // from which it came, if it did
			return true
		default:
			p.sendq.pushFront(l)
			return false
		}
	}
	if l.req != f.b {
		p.dropLane(l)
	}
	return true
}

// takeBlocked takes from lanes that waited for a shard's limit.
func (p *Producer) takeBlocked(f *filling) bool {
	if p.blockedUntil == 0 {
		return true
	}
	for _, s := range p.shards.open {
		for s.blocked.head != nil && s.free <= f.now {
			l := s.blocked.pop()
			if !p.takeLane(f, l) {
				return false
			}
		}
	}
	return true
}

// nextFree is when the first of the lanes that wait for a limit may go; 0 if
// none does.
func (p *Producer) nextFree() (at int64) {
	if p.opts.Limits == (Limits{}) {
		return 0
	}
	for _, s := range p.shards.open {
		if s.blocked.head != nil && (at == 0 || s.free < at) {
			at = s.free
		}
	}
	return at
}

// fewBusy is how many entries of keys in use are moved out of the way for others.
const fewBusy = 64

// takeReady takes from what arrived; entries whose key is in use go into its
// lane. With few keys most are in use by the requests in flight, and what has
// arrived may be much: it is left where it is then, and handled once, until one
// of them returns or takes long.
func (p *Producer) takeReady(f *filling) {
	moved := 0
	for e := p.ready.head; e != nil; e = p.ready.head {
		var l *lane
		if len(p.keys) > 0 {
			l = p.keys[e.hash]
		}
		if l != nil && (l.req != f.b || l.waiting.n > 0) {
			if l.req != nil && l.req != f.b && f.now-l.req.sent < int64(patience) {
				moved++
			}
			if moved > fewBusy || moved > 0 && len(f.b.slots) > p.opts.MaxBatchRecords/2 {
				p.crowded = f.now + int64(patience)
				return
			}
			p.ready.remove(e)
			l.waiting.push(e)
			continue
		}
		if l == nil && !f.b.noLanes {
			l = p.newLane(e.hash)
		}
		switch s, fit := p.add(f, e, l); fit {
		case full:
			if l != nil && l.req != f.b {
				p.dropLane(l)
			}
			return
		case later, limited:
			p.ready.remove(e)
			l.waiting.push(e)
			if l.req != f.b {
				s.blocked.push(l)
			}
		}
	}
}

// add puts e into the request if it fits. The shard is the one on which it
// should land; nil when that is not known.
func (p *Producer) add(f *filling, e *entry, l *lane) (*shardState, fit) {
	s, at, fit := p.slotFor(f, e, l)
	for n := 0; fit == limited && e.keyless && n < len(p.shards.open); n++ {
		p.sticky.left = 0 // there are other shards
		s, at, fit = p.slotFor(f, e, l)
	}
	if fit != fits {
		return s, fit
	}
	b := f.b
	e.in.remove(e)
	if e.lane = nil; l != nil {
		p.enterLane(b, e, l, at)
	}
	b.live++
	e.state, e.req = sending, b
	if e.attempts++; e.attempts == 1 {
		p.stats.buffering.add(time.Duration(f.now - e.born))
	}
	return s, fits
}

// slotFor finds or makes the record of the request that e goes into.
func (p *Producer) slotFor(f *filling, e *entry, l *lane) (s *shardState, at int, fit fit) {
	if p.predict {
		if e.keyless {
			p.spread(e)
		}
		s = p.shards.find(e.hashKey)
	}
	if s != nil {
		if s.free > f.now {
			return s, -1, limited
		}
		if at, fit = p.join(f, e, l, s); fit != fits || at >= 0 {
			return s, at, fit
		}
	}
	at, fit = p.newSlot(f, e, l, s)
	return s, at, fit
}

// aggregates tells whether e may be a part of an aggregate.
func (p *Producer) aggregates(e *entry) bool {
	return p.opts.Aggregation.Enabled && !e.solo && e.alone == 0 && e.dedupID() == ""
}

// join puts e into the aggregate for its shard, if there is one with room;
// otherwise the index is negative.
func (p *Producer) join(f *filling, e *entry, l *lane, s *shardState) (int, fit) {
	if s.slot < 0 || !p.aggregates(e) {
		return -1, fits
	}
	at := s.slot
	sl := &f.b.slots[at]
	if a := p.opts.Aggregation; a.MaxCount > 0 && sl.n >= a.MaxCount {
		return -1, fits
	}
	if p.strict && l.req == f.b && l.slot != at {
		return -1, later
	}
	before := sl.build.Size()
	if p.limits(f, s, 0, e.size) {
		return -1, limited
	}
	if !sl.build.Add(e.user(), min(p.opts.Aggregation.MaxSize, before+p.opts.MaxBatchBytes-f.b.bytes)) {
		return -1, fits
	}
	sl.last.mate, sl.last = e, e
	sl.n++
	grown := sl.build.Size() - before
	s.limit.use(f.clock, 0, grown)
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

// limits tells whether the shard takes no more, and if so, until when.
func (p *Producer) limits(f *filling, s *shardState, records, bytes int) bool {
	wait := s.limit.wait(f.clock, records, bytes)
	if wait > 0 {
		s.free = f.now + int64(wait)
	}
	return wait > 0
}

// newSlot begins a record of the request with e.
func (p *Producer) newSlot(f *filling, e *entry, l *lane, s *shardState) (int, fit) {
	b := f.b
	limit := b.limit
	if e.alone > 0 {
		limit = min(limit, int(e.alone))
	}
	// Data that begins as an aggregate does is always wrapped, where readers
	// take aggregates apart.
	size, wrap := e.size, p.opts.Aggregation.Enabled && hasMagic(e.data)
	if wrap {
		size = kpl.Alone(e.user()) + len(e.key)
	}
	at := len(b.slots)
	if at >= limit || at > 0 && b.bytes+size > p.opts.MaxBatchBytes || p.stuck() {
		return -1, full
	}
	if p.strict && l.req == b {
		return -1, later
	}
	if s != nil {
		if p.limits(f, s, 1, e.size) {
			return -1, limited
		}
		s.slot = -1 // what comes behind must not be stored before it
	}
	sl := b.addSlot()
	sl.first, sl.last, sl.n, sl.shard, sl.size = e, e, 1, s, e.size
	if p.predict {
		sl.span = shardlog.HashRange{First: e.hashKey, Last: e.hashKey}
	}
	if more := s != nil && p.aggregates(e); more || wrap {
		build := builders.Get().(*kpl.Builder)
		most := p.opts.Aggregation.MaxSize
		if wrap {
			most = math.MaxInt
		}
		if build.Add(e.user(), most) {
			sl.build, sl.size = build, build.Size()+len(e.key)
		} else {
			builders.Put(build)
			more = false
		}
		if more {
			s.slot = at
		}
	}
	if s != nil {
		s.limit.use(f.clock, 1, sl.size)
	}
	if p.opts.ID != "" {
		sl.number = p.numbers.take()
	}
	b.limit = limit
	b.bytes += sl.size
	return at, fits
}

// promote lets the retries go whose time has come.
func (p *Producer) promote(now int64) {
	for len(p.backoff) > 0 && p.backoff[0].due <= now {
		l := heap.Pop(&p.backoff).(*lane)
		l.due = 0
		if l.waiting.n == 0 {
			p.dropLane(l)
		} else {
			p.sendq.push(l)
		}
	}
}
