package producer

import (
	"math"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// nextRequest returns a request for one of the senders to send; nil if nothing
// is to be sent now. Fresh is set for a sender that was just started, because
// then it was checked that one is due while others are in flight.
func (c *core) nextRequest(fresh bool, now int64) *request {
	c.expire(now)
	c.keys.promoteRetries(now)
	if b := c.flight.popResend(now); b != nil {
		resendEntries(b)
		c.onSend(b, now)
		return b
	}
	if c.outOfNumbers() || c.nextNewDue(c.flight.senders-1) > now {
		return nil
	}
	if !fresh && c.flight.senders > 1 && now < c.sched.lastSentAt+c.stagger() {
		return nil
	}
	b := c.flight.newRequest()
	b.maxSlots, b.version = c.conf.MaxBatchRecords, c.shards.version
	if c.flight.withoutQueues != nil {
		c.createQueues(c.flight.withoutQueues)
	}
	if c.sendsPacked() {
		c.fillPacked(b, now)
		c.sched.limitedUntil, c.flight.withoutQueues = 0, b
		c.onSend(b, now)
		return b
	}
	b.noQueues = c.flight.senders-c.flight.starting == 1 && !c.strict && c.conf.ShardRate == (ShardRate{})
	f := filling{core: c, b: b, now: now, clock: c.clock(now)}
	if f.fromRunnable() && f.fromLimited() {
		f.fromReady()
	}
	if c.conf.ShardRate != (ShardRate{}) {
		c.sched.limitedUntil = c.shards.nextLimited()
	} else {
		c.sched.limitedUntil = 0
	}
	for i := range b.slots {
		if s := b.slots[i].shard; s != nil {
			s.openSlot = -1
		}
	}
	if len(b.slots) == 0 {
		c.endRequest(b)
		return nil
	}
	if b.noQueues {
		c.flight.withoutQueues = b
	}
	c.onSend(b, now)
	return b
}

// resendEntries changes the state of the entries of a request that was in
// doubt. Those that have their result stay in it, because its bytes must not
// change.
func resendEntries(b *request) {
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.nextInSlot {
			if e.state == awaitsResend {
				e.state = inRequest
				e.attempts++
			}
		}
	}
}

// onSend records that b goes to the sink.
func (c *core) onSend(b *request, now int64) {
	b.epoch, b.doneBelow = c.flight.epoch, c.flight.numbers.doneBelow
	b.sends++
	b.sent, c.sched.lastSentAt = now, now
	c.stats.requests++
	c.stats.slotsPerRequest.add(int64(b.size()))
	c.stats.recordsPerRequest.add(int64(b.userRecords()))
}

// createQueues makes the key queues of a request that went without. That is
// done only when there is a need, because most requests have none: no other one
// is in flight with them, and no record fails.
func (c *core) createQueues(b *request) {
	if !b.noQueues {
		return
	}
	b.noQueues = false
	c.unpackRequest(b)
	if c.flight.withoutQueues == b {
		c.flight.withoutQueues = nil
	}
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.nextInSlot {
			if e.queue != nil {
				continue
			}
			q := c.keys.find(e.hash)
			if q == nil {
				q = c.keys.create(e.hash)
			}
			b.attach(e, q, i)
		}
	}
}

// filling is the work of putting entries into a request.
type filling struct {
	*core
	b     *request
	now   int64
	clock time.Time // now, for the limiters
}

// fit says whether a request takes an entry.
type fit uint8

const (
	fits    fit = iota
	full        // the request takes nothing more
	later       // the key's earlier records have to be stored first
	limited     // the shard's limit is reached
)

// fromRunnable takes from key queues that may go. It returns false when the
// request is full.
func (f *filling) fromRunnable() bool {
	for f.keys.runnable.head != nil {
		if !f.fromQueue(f.keys.runnable.pop()) {
			return false
		}
	}
	return true
}

// fromQueue takes from a key queue, which is in no list meanwhile. It returns
// false when the request is full.
func (f *filling) fromQueue(q *keyQueue) bool {
	for e := q.entries.head; e != nil; e = q.entries.head {
		if e.state == resultHeld {
			if q.carrier == f.b {
				return true // its callback comes after that of the one before
			}
			f.decide(e, &e.outcome.res, e.outcome.err)
			continue
		}
		switch s, fit := f.place(e, q); {
		case fit == fits:
		case q.carrier == f.b: // it is released with the request
			return fit != full
		case fit == limited:
			s.limited.pushFront(q) // where it was, if it was there
			return true
		default:
			f.keys.runnable.pushFront(q)
			return false
		}
	}
	if q.carrier != f.b {
		f.keys.drop(q)
	}
	return true
}

// fromLimited takes from key queues that waited for a shard's limit. It returns
// false when the request is full.
func (f *filling) fromLimited() bool {
	if f.sched.limitedUntil == 0 {
		return true
	}
	for _, s := range f.shards.open {
		for s.limited.head != nil && s.limitedUntil <= f.now {
			if !f.fromQueue(s.limited.pop()) {
				return false
			}
		}
	}
	return true
}

// maxMoved is how many entries whose keys are in requests are moved to their
// key queues to find others behind them.
const maxMoved = 64

// fromReady takes from what arrived. Entries whose key is in a request go into
// its key queue. With few keys most are in the requests in flight, and much may
// have arrived: then it is left where it is, to be handled once, until one of
// these requests returns or takes long.
func (f *filling) fromReady() {
	ready := &f.buffer.ready
	moved := 0
	for e := ready.head; e != nil; e = ready.head {
		q := f.keys.find(e.hash)
		if q != nil && (q.carrier != f.b || q.entries.n > 0) {
			if q.carrier != nil && q.carrier != f.b && f.now-q.carrier.sent < int64(patience) {
				moved++
			}
			if moved > maxMoved || moved > 0 && len(f.b.slots) > f.conf.MaxBatchRecords/2 {
				f.sched.contendedUntil = f.now + int64(patience)
				return
			}
			ready.remove(e)
			q.entries.push(e)
			continue
		}
		if q == nil && !f.b.noQueues {
			q = f.keys.create(e.hash)
		}
		switch s, fit := f.place(e, q); fit {
		case full:
			if q != nil && q.carrier != f.b {
				f.keys.drop(q)
			}
			return
		case later, limited:
			ready.remove(e)
			q.entries.push(e)
			if q.carrier != f.b {
				s.limited.push(q)
			}
		}
	}
}

// place puts e into the request if it fits. The shard is the one on which it
// should land; nil when that is not known.
func (f *filling) place(e *entry, q *keyQueue) (*shardState, fit) {
	s, at, fit := f.findSlot(e, q)
	for n := 0; fit == limited && e.keyless && n < len(f.shards.open); n++ {
		f.sticky.left = 0 // there are other shards
		s, at, fit = f.findSlot(e, q)
	}
	if fit != fits {
		return s, fit
	}
	e.in.remove(e)
	if e.queue = nil; q != nil {
		f.b.attach(e, q, at)
	}
	f.b.undecided++
	e.state, e.carrier = inRequest, f.b
	if e.attempts++; e.attempts == 1 {
		f.stats.buffering.add(time.Duration(f.now - e.born))
	}
	return s, fits
}

// findSlot finds or makes the slot of the request that e goes into.
func (f *filling) findSlot(e *entry, q *keyQueue) (s *shardState, at int, fit fit) {
	if f.conf.needsShards {
		if e.keyless {
			f.sticky.assign(e, &f.shards)
		}
		s = f.shards.find(e.hashKey)
	}
	if s != nil {
		if s.limitedUntil > f.now {
			return s, -1, limited
		}
		if at, fit = f.joinAggregate(e, q, s); fit != fits || at >= 0 {
			return s, at, fit
		}
	}
	at, fit = f.newSlot(e, q, s)
	return s, at, fit
}

// joinAggregate puts e into the aggregate for its shard, if there is one with
// room; otherwise the index is negative.
func (f *filling) joinAggregate(e *entry, q *keyQueue, s *shardState) (int, fit) {
	if s.openSlot < 0 || !f.conf.aggregates(e) {
		return -1, fits
	}
	at := s.openSlot
	sl := &f.b.slots[at]
	if a := f.conf.Aggregation; a.MaxCount > 0 && sl.n >= a.MaxCount {
		return -1, fits
	}
	if f.strict && q.carrier == f.b && q.lastSlot != at {
		return -1, later
	}
	before := sl.builder.Size()
	if f.overLimit(s, 0, e.size) {
		return -1, limited
	}
	if !sl.builder.Add(e.asUserRecord(), min(f.conf.maxAggregate(sl.first.key), before+f.conf.MaxBatchBytes-f.b.bytes)) {
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

// overLimit reports whether the limit of a shard admits no more now, and notes
// when it will.
func (f *filling) overLimit(s *shardState, records, bytes int) bool {
	wait := s.limit.delay(f.clock, records, bytes)
	if wait > 0 {
		s.limitedUntil = f.now + int64(wait)
	}
	return wait > 0
}

// newSlot begins a slot of the request with e.
func (f *filling) newSlot(e *entry, q *keyQueue, s *shardState) (int, fit) {
	b := f.b
	maxSlots := b.maxSlots
	if e.maxSlots > 0 {
		maxSlots = min(maxSlots, int(e.maxSlots))
	}
	size, wrap := e.size, f.conf.mustWrap(e.data, e.headers())
	if wrap {
		size = kpl.Alone(e.asUserRecord()) + len(e.key)
	}
	at := len(b.slots)
	if at >= maxSlots || at > 0 && b.bytes+size > f.conf.MaxBatchBytes || f.outOfNumbers() {
		return -1, full
	}
	if f.strict && q.carrier == b {
		return -1, later
	}
	if s != nil {
		if f.overLimit(s, 1, e.size) {
			return -1, limited
		}
		s.openSlot = -1 // what follows must not be stored before it
	}
	sl := b.addSlot()
	sl.first, sl.last, sl.n, sl.shard, sl.size, sl.wrapped = e, e, 1, s, e.size, wrap
	if f.conf.needsShards {
		sl.span = shardlog.HashRange{First: e.hashKey, Last: e.hashKey}
	}
	if more := s != nil && f.conf.aggregates(e); more || wrap {
		f.openAggregate(sl, e, wrap)
		if more && sl.builder != nil {
			s.openSlot = at
		}
	}
	if s != nil {
		s.limit.consume(f.clock, 1, sl.size)
	}
	if f.conf.ID != "" {
		sl.number = f.flight.numbers.assign()
	}
	b.maxSlots = maxSlots
	b.bytes += sl.size
	return at, fits
}

// openAggregate begins an aggregate with e, unless that is too large for one.
// An entry that has to be wrapped gets one of any size.
func (f *filling) openAggregate(sl *slot, e *entry, wrap bool) {
	most := f.conf.maxAggregate(e.key)
	if wrap {
		most = math.MaxInt
	}
	builder := builders.Get().(*kpl.Builder)
	if !builder.Add(e.asUserRecord(), most) {
		builders.Put(builder)
		return
	}
	sl.builder, sl.size = builder, builder.Size()+len(e.key)
}
