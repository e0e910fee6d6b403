package producer

import (
	"context"
	"time"

	"github.com/shardlog/shardlog"
)

// This file has the way of a record from the call that put it to a request:
// the bound of the buffer, the queues, and the decision when to send.

// enter accepts a record if there is room, and else lets it wait in p.waiting if
// block is set. The caller starts a sender with arrived.
func (p *Producer) enter(r *shardlog.Record, in *prepared, block bool, now int64) (*entry, error) {
	if p.state != stateOpen {
		return nil, p.closedError()
	}
	size := in.size
	full := p.mustWait(size, block, now)
	if full {
		if block && p.callbacksRun {
			// A callback that waits for room keeps others from making it.
			block = !p.inside()
			if p.state != stateOpen {
				return nil, p.closedError()
			}
			full = p.mustWait(size, block, now)
		}
		if full && !block {
			p.stats.rejected++
			return nil, ErrBufferFull
		}
	}
	e := p.newEntry()
	e.key, e.hashKey, e.data, e.size, e.hash = r.PartitionKey, r.ExplicitHashKey, r.Data, in.size, in.hash
	if n := len(r.Data); n > 0 && n <= smallData && !p.opts.BorrowData {
		e.data, e.chunk = p.copyData(r.Data)
	}
	e.explicit, e.keyless, e.extras = in.explicit, in.keyless, in.extras
	if full {
		p.waiting.push(e)
		p.planTimer()
		return e, nil
	}
	p.accept(e, now)
	return e, nil
}

// mustWait tells whether a record has to wait, or, if it does not, is refused.
func (p *Producer) mustWait(size int, block bool, now int64) bool {
	switch {
	case !p.hasRoom(size):
		return true
	case p.waiting.n == 0:
		return block && p.ahead(now)
	}
	return block || !p.hasRoom(p.waiting.head.size) // else those wait for the sink only
}

// backlog is how many full requests' worth may wait, for a request or for
// callbacks, before writers wait for a sink that is at work. What waits longer
// than it must falls out of the processor's caches, which costs more than all
// the rest.
const backlog = 4

// ahead tells whether writers are ahead of a sink, and callbacks, that are as
// fast as that. Slow ones are no reason to wait while there is room.
func (p *Producer) ahead(now int64) bool {
	return (p.ready.n+p.outbox.n)/backlog >= p.fullRequest && (p.senders > 0 || p.outbox.n > 0) && now < p.lastSentAt+int64(patience)
}

func (p *Producer) hasRoom(size int) bool {
	return p.records < p.opts.BufferRecords && p.bytes+int64(size) <= p.opts.BufferBytes
}

func (p *Producer) accept(e *entry, now int64) {
	p.seq++
	e.state, e.seq, e.born = queued, p.seq, now
	p.records++
	p.bytes += int64(e.size)
	p.undecided++
	p.stats.received++
	p.ready.push(e)
	p.age.push(e)
}

// admitWaiting accepts entries that waited for room.
func (p *Producer) admitWaiting(now int64) {
	for e := p.waiting.head; e != nil && p.hasRoom(e.size) && !p.ahead(now); e = p.waiting.head {
		p.waiting.remove(e)
		p.accept(e, now)
		if e.admit != nil {
			e.admit <- nil // has room for one
			e.admit = nil
		}
		if e.waiter != nil {
			p.flushUpTo = e.seq
		}
	}
}

// refuseWaiting turns away the entries that wait for room.
func (p *Producer) refuseWaiting() {
	for e := p.waiting.head; e != nil; e = p.waiting.head {
		if e.admit != nil {
			p.waiting.remove(e)
			e.admit <- p.closedError()
			continue
		}
		p.decide(e, &Result{}, putError(p.closedError()))
	}
}

// awaitRoom blocks until e was accepted or refused, or ctx ends. E may be in
// other hands as soon as it was accepted.
func (p *Producer) awaitRoom(ctx context.Context, e *entry, admit chan error) error {
	select {
	case err := <-admit:
		return err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.unlock()
	select {
	case err := <-admit:
		return err
	default:
	}
	p.waiting.remove(e)
	p.advance(p.now()) // the next one may be smaller
	return endOf(ctx)
}

// onArrival starts a sender for e, which was just accepted, if it may go.
func (p *Producer) onArrival(e *entry) {
	most := p.opts.MaxBatchBytes
	if p.ready.n > 1 && (p.senders > 0 || e.seq > p.flushUpTo) &&
		p.ready.n%p.fullRequest != 0 && (p.ready.bytes-e.size)/most == p.ready.bytes/most {
		return // it is neither the first one, nor fills a request, nor is in a hurry: see nextNewDue
	}
	p.startSender(e.born)
	p.planTimer()
}

// closedError is why the producer takes nothing more.
func (p *Producer) closedError() error {
	if p.fatal != nil {
		return p.fatal
	}
	return shardlog.ErrClosed
}

// expire gives the entries whose time is over their result.
func (p *Producer) expire(now int64) {
	if p.ttl == 0 {
		return
	}
	for e := p.age.oldest; e != nil && now-e.born >= p.ttl; e = p.age.oldest {
		if e.state != resultHeld {
			p.stats.expired++
		}
		p.giveUp(e, both(ErrTTLExpired, e.lastCause()))
	}
}

// giveUp gives an entry that is not sent any more its result: why, if it has
// none yet.
func (p *Producer) giveUp(e *entry, why error) {
	if e.state == resultHeld {
		p.decide(e, &e.outcome.res, e.outcome.err)
		return
	}
	p.decide(e, &Result{}, e.notStoredError(why))
}

// planTimer sets the timer to when there is something to do next.
func (p *Producer) planTimer() {
	if p.undecided == 0 && p.waiting.n == 0 {
		if p.records == 0 && p.freeCount > maxFree && p.idleSeq != p.seq && p.state == stateOpen {
			p.idleSeq = p.seq
			if at := p.now() + int64(idleTime); p.wakeAt == 0 || p.wakeAt > at {
				p.arm(at) // see trim
			}
		}
		return
	}
	at := int64(never)
	earlier := func(t int64) { at = min(at, t) }
	if p.ttl > 0 && p.undecided > 0 {
		earlier(p.age.oldest.born + p.ttl)
	}
	if len(p.retries) > 0 {
		earlier(p.retries[0].retryAt)
	}
	if p.waiting.n > 0 && p.ahead(p.now()) {
		earlier(p.lastSentAt + int64(patience))
	}
	if p.senders < p.opts.MaxInFlight { // else a sender looks for itself
		earlier(p.nextDue(p.senders))
	}
	if at == never || (p.wakeAt != 0 && p.wakeAt <= at) {
		return
	}
	p.arm(at)
}

// arm sets the timer.
func (p *Producer) arm(at int64) {
	p.wakeAt = at
	d := time.Duration(at - p.now())
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.tick)
	} else {
		p.timer.Reset(d)
	}
}

// tick is called by the timer. A tick that was overtaken by a change of the
// timer finds little to do.
func (p *Producer) tick() {
	p.mu.Lock()
	defer p.unlock()
	p.wakeAt = 0
	if p.state == stateClosed {
		return
	}
	now := p.now()
	if p.idleSeq == p.seq {
		p.trim()
	}
	p.expire(now)
	p.promoteRetries(now)
	p.advance(now)
}

func (p *Producer) disarm() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.wakeAt = 0
}
