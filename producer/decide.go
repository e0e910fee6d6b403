package producer

import (
	"container/heap"
	"fmt"

	"github.com/shardlog/shardlog"
)

// decide gives an entry its result, the only one. A call that waits for it is
// notified when mu is released; a callback is queued.
func (c *core) decide(e *entry, res *Result, err error) {
	switch e.state {
	case awaitsRoom: // was never counted
		c.buffer.waiting.remove(e)
		e.deliver(&e.waiter.out[e.outIndex], res, err)
		c.noteResult(e.waiter)
		return
	case queued, resultHeld:
		if e.in != nil {
			e.in.remove(e)
		}
	case inRequest:
		if b := e.carrier; b != nil {
			if b.undecided--; b.undecided == 0 {
				b.giveUp()
			}
		}
	case awaitsResend:
		if b := e.carrier; b.undecided > 1 {
			b.undecided--
		} else {
			defer c.dropInDoubt(b)
		}
	}
	e.state = decided
	c.buffer.onDecided(e)
	if e.attempts > 1 {
		c.stats.retried.add(int64(e.attempts - 1))
	}
	if err == nil {
		c.stats.put++
		c.stats.putBytes += uint64(e.size)
	} else {
		c.stats.failed++
	}
	c.outbox.onProgress(e.seq, false)
	switch {
	case e.waiter != nil:
		e.deliver(&e.waiter.out[e.outIndex], res, err)
		c.noteResult(e.waiter)
		c.freeEntry(e)
	case e.callback == nil:
		c.freeEntry(e)
	default:
		e.deliver(&e.outcome, res, err)
		c.outbox.pending.push(e)
	}
}

// noteResult counts a result that a waiter got.
func (c *core) noteResult(w *waiter) {
	if w.left--; w.left == 0 {
		w.next, c.effects.notify = c.effects.notify, w
	}
}

// freeEntry gives back the room of an entry whose result is delivered. The caller
// has admitWaiting called afterwards.
func (c *core) freeEntry(e *entry) {
	c.outbox.onProgress(e.seq, true)
	c.buffer.remove(e)
}

// freeUntil frees the entries of a chain from first to before end, whose
// callbacks have returned.
func (c *core) freeUntil(first, end *entry) {
	for e := first; e != end; {
		next := e.next
		e.next = nil
		c.freeEntry(e)
		e = next
	}
}

// freeDelivered frees the records of d whose callbacks have returned.
func (c *core) freeDelivered(d *delivery) {
	c.freeUntil(d.first, d.next)
	d.first = d.next
	for ; d.from < d.at; d.from++ {
		if it := &d.page.items[d.from]; it.callback != nil {
			c.freeItem(d.page.first+uint64(d.from), it)
		}
	}
	if pg := d.page; pg != nil && d.from == len(pg.items) {
		c.buffer.recyclePage(pg)
		*d = delivery{}
	}
}

// endRequest ends the use of a request: its keys may go into others.
func (c *core) endRequest(b *request) {
	for _, q := range b.queues {
		c.keys.release(q)
	}
	c.flight.recycle(b)
}

// dropInDoubt ends a request in doubt that no one waits for any more.
func (c *core) dropInDoubt(b *request) {
	heap.Remove(&c.flight.inDoubt, b.heapIndex)
	c.flight.retireNumbers(b)
	c.endRequest(b)
}

// giveUp gives an entry that is not sent any more its result: why, unless it has
// one already.
func (c *core) giveUp(e *entry, why error) {
	if e.state == resultHeld {
		c.decide(e, &e.outcome.res, e.outcome.err)
		return
	}
	c.decide(e, &Result{}, e.notStoredError(why))
}

// abandon gives an entry whose caller stops waiting its result. The caller
// knows that it has none yet.
func (c *core) abandon(e *entry, cause error) {
	err := cause
	if e.mayBeStored() {
		err = both(shardlog.ErrUnknownOutcome, cause)
	}
	c.decide(e, &Result{}, putError(err))
}

// abandonAll is abandon for the records of a call that have no result.
func (c *core) abandonAll(w *waiter, cause error) {
	c.unpack()
	for i, e := range w.entries {
		if !w.out[i].set {
			c.abandon(e, cause)
		}
	}
}

// expire gives the entries whose time is over their result.
func (c *core) expire(now int64) {
	if c.conf.ttl == 0 || c.buffer.undecided == 0 || now-c.oldestBorn() < c.conf.ttl {
		return
	}
	c.unpack()
	for e := c.buffer.age.oldest; e != nil && now-e.born >= c.conf.ttl; e = c.buffer.age.oldest {
		if e.state != resultHeld {
			c.stats.expired++
		}
		c.giveUp(e, both(ErrTTLExpired, e.lastCause()))
	}
}

// refuseWaiting turns away the entries that wait for room.
func (c *core) refuseWaiting() {
	for e := c.buffer.waiting.head; e != nil; e = c.buffer.waiting.head {
		if e.admit != nil {
			c.buffer.waiting.remove(e)
			e.admit <- c.closedError() // has room for one
			continue
		}
		c.decide(e, &Result{}, putError(c.closedError()))
	}
}

// fence ends a producer whose identity another one has taken over. What is at
// the sink gets its result from there.
func (c *core) fence(err error) {
	if c.fatal != nil {
		return
	}
	c.fatal = err
	if c.life == stateOpen {
		c.life = stateDraining
	}
	c.refuseWaiting()
	for e := c.buffer.age.oldest; e != nil; {
		next := e.younger
		switch {
		case e.state == inRequest:
		case e.state == resultHeld:
			c.decide(e, &e.outcome.res, e.outcome.err)
		case e.inDoubt:
			c.decide(e, &Result{}, putError(both(shardlog.ErrUnknownOutcome, err)))
		default:
			c.decide(e, &Result{}, putError(err))
		}
		e = next
	}
}

// mayBeStored reports whether an entry without a result may be stored, or may
// be later.
func (e *entry) mayBeStored() bool { return e.state == inRequest || e.inDoubt }

// notStoredError returns the error of an entry that gets no further attempt:
// why, or, if the record may be stored, shardlog.ErrUnknownOutcome, with why as
// text only.
func (e *entry) notStoredError(why error) error {
	switch {
	case e.state == inRequest:
		return putError(fmt.Errorf("%w: a request is in flight: %v", shardlog.ErrUnknownOutcome, why))
	case e.inDoubt:
		return putError(fmt.Errorf("%w of an earlier attempt: %v", shardlog.ErrUnknownOutcome, why))
	}
	return putError(why)
}
