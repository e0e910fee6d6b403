package producer

import (
	"math"
	"time"
)

const (
	// patience is how long a record waits for the requests in flight before a
	// further one is started for it.
	patience = 5 * time.Millisecond

	// stagger is how long after a request another one may be started while it
	// is in flight. A sink that answers faster than that, as one in the same
	// process does, gets one after the other, which costs less than any overlap
	// gains. If it usually does, patience takes its place: most requests that
	// take longer are those of a process that had no processor.
	stagger = time.Millisecond

	// backlog is how many full requests' worth may wait, for a request or for
	// callbacks, before writers wait for a sink that is at work. What waits
	// longer than it must falls out of the processor's caches, which costs more
	// than all other work on a record.
	backlog = 4

	// never is when nothing is due that something else does not bring about.
	never = math.MaxInt64
)

// nextDue returns when a request should be sent while there are others. It
// alone decides that: the timer, new records and returning requests all ask it.
func (c *core) nextDue(others int) int64 {
	at := int64(never)
	if len(c.flight.inDoubt) > c.flight.starting {
		at = c.flight.inDoubt[0].resendAt
	}
	if !c.outOfNumbers() {
		at = min(at, c.nextNewDue(others))
	}
	if others > 0 {
		at = max(at, c.sched.lastSentAt+c.stagger())
	}
	return at
}

// stagger returns how long after a request another one may be started.
func (c *core) stagger() int64 {
	if c.sched.usualTime < int64(stagger)/2 {
		return int64(patience)
	}
	return int64(stagger)
}

// noteRequestTime counts how long a request took in what is usual.
func (s *schedule) noteRequestTime(d time.Duration) { s.usualTime += (int64(d) - s.usualTime) / 8 }

// nextNewDue is nextDue for a request that was not sent before.
func (c *core) nextNewDue(others int) int64 {
	at := int64(never)
	n, starting := c.buffer.readyRecords(), c.flight.starting
	first, born := uint64(never), int64(0)
	if n > 0 {
		first, born = c.buffer.firstReady()
	}
	switch full := max(c.buffer.readyBytes()/c.conf.MaxBatchBytes, n/c.conf.fullRequest); {
	case full > starting, n > 0 && others == 0 && first <= c.sched.flushUpTo:
		at = 0
	case starting > 0: // will send what there is
		return never
	case n > 0:
		at = born + c.holdBack(others)
	}
	if others > 0 {
		at = max(at, c.sched.contendedUntil)
	}
	if starting == 0 && c.keys.runnable.head != nil {
		at = 0
	}
	if starting == 0 && c.sched.limitedUntil > 0 {
		at = min(at, c.sched.limitedUntil)
	}
	return at
}

// holdBack returns how long a record may wait while others are in flight.
func (c *core) holdBack(others int) int64 {
	if others == 0 {
		return int64(c.conf.Linger)
	}
	return max(int64(patience), int64(c.conf.Linger))
}

// startSender starts a sender if a request is due.
func (c *core) startSender(now int64) {
	if c.flight.senders < c.conf.MaxInFlight && c.nextDue(c.flight.senders) <= now {
		c.flight.senders++
		c.flight.starting++
		c.sched.lastSentAt = now
		c.effects.senders++
	}
}

// mustWait reports whether a record of a size has to wait for room. Block says
// whether it can wait; one that cannot is refused instead.
func (c *core) mustWait(size int, block bool, now int64) bool {
	b := &c.buffer
	switch {
	case !b.hasRoom(size):
		return true
	case b.waiting.n == 0:
		return block && c.aheadOfSink(now)
	}
	return block || !b.hasRoom(b.waiting.head.size) // else those wait for the sink only
}

// aheadOfSink reports whether writers are ahead of a sink, and callbacks, that
// are nearly as fast. Slow ones are no reason to wait while there is room. Once
// writers wait, they do so until half of it is done, because to stop and to
// continue costs as much as many records.
func (c *core) aheadOfSink(now int64) bool {
	waiting, requests := c.outbox.waiting(), backlog
	if c.buffer.waiting.n > 0 {
		requests = backlog / 2
	}
	return (c.buffer.readyRecords()+waiting)/requests >= c.conf.fullRequest && (c.flight.senders > 0 || waiting > 0) &&
		now < c.sched.lastSentAt+int64(patience)
}

// admitWaiting accepts entries that waited for room.
func (c *core) admitWaiting(now int64) {
	b := &c.buffer
	for e := b.waiting.head; e != nil && b.hasRoom(e.size) && !c.aheadOfSink(now); e = b.waiting.head {
		b.waiting.remove(e)
		if e.admit != nil {
			e.admit <- nil // has room for one
			e.admit = nil
		}
		waits := e.waiter != nil
		if !c.packWaiting(e, now) {
			c.accept(e, now)
		}
		if waits {
			c.flushThrough(b.seq)
		}
	}
}

// accept takes an entry into the buffer.
func (c *core) accept(e *entry, now int64) {
	c.unpack()
	c.buffer.accept(e, now)
	c.stats.received++
}

// advance starts what the state asks for, after something other than the
// arrival of a record has changed it.
func (c *core) advance(now int64) {
	c.admitWaiting(now)
	c.startSender(now)
	if c.outbox.startCallbacks() {
		c.effects.callbacks = true
	}
	c.planTimer(now)
	c.finishIfDone()
}

// finishIfDone ends a producer that was shut down or closed once nothing is
// left.
func (c *core) finishIfDone() {
	if c.ended || c.life == stateOpen || c.buffer.records > 0 || c.flight.senders > 0 || c.outbox.running || c.outbox.waiting() > 0 {
		return
	}
	c.ended, c.life = true, stateClosed
	c.setTimer(0)
	c.trim()
	c.effects.cancel, c.effects.finished = true, true
}

// planTimer sets the timer to when there is something to do next.
func (c *core) planTimer(now int64) {
	if c.buffer.undecided == 0 && c.buffer.waiting.n == 0 {
		c.planTrim(now)
		return
	}
	at := int64(never)
	earlier := func(t int64) { at = min(at, t) }
	if c.conf.ttl > 0 && c.buffer.undecided > 0 {
		earlier(c.oldestBorn() + c.conf.ttl)
	}
	if len(c.keys.retries) > 0 {
		earlier(c.keys.retries[0].retryAt)
	}
	if c.buffer.waiting.n > 0 && c.aheadOfSink(now) {
		earlier(c.sched.lastSentAt + int64(patience))
	}
	if c.flight.senders < c.conf.MaxInFlight { // else a sender looks for itself
		earlier(c.nextDue(c.flight.senders))
	}
	if at == never || (c.sched.wakeAt != 0 && c.sched.wakeAt <= at) {
		return
	}
	c.setTimer(at)
}

// planTrim sets the timer to when trim is due, once for each time that nothing
// is left to do.
func (c *core) planTrim(now int64) {
	if c.buffer.records > 0 || c.buffer.keepsLittle() || c.sched.idleSeq == c.buffer.seq || c.life != stateOpen {
		return
	}
	c.sched.idleSeq = c.buffer.seq
	if at := now + int64(idleTime); c.sched.wakeAt == 0 || c.sched.wakeAt > at {
		c.setTimer(at)
	}
}

// onTimer does what is due. A timer that fires although it was set to another
// time meanwhile finds little to do.
func (c *core) onTimer(now int64) {
	c.sched.wakeAt = 0
	if c.life == stateClosed {
		return
	}
	if c.sched.idleSeq == c.buffer.seq {
		c.trim()
	}
	c.expire(now)
	c.keys.promoteRetries(now)
	c.advance(now)
}
