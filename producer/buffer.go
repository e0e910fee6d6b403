package producer

import (
	"container/heap"
	"context"
	"time"

	"github.com/shardlog/shardlog"
)

// This file has the way of a record from the call that put it to a request:
// the bound of the buffer, the queues, and the decision when to send.

// enter accepts a record if there is room, and else lets it wait in p.room if
// block is set. The caller starts a sender with arrived.
func (p *Producer) enter(r *shardlog.Record, size int, hash uint64, block bool) (*entry, error) {
	if p.state != stateOpen {
		return nil, shardlog.ErrClosed
	}
	full := p.room.n > 0 || !p.fits(size)
	if full {
		if block && p.dispatching {
			// A callback that waits for room keeps others from making it.
			block = !p.inside()
			if p.state != stateOpen {
				return nil, shardlog.ErrClosed
			}
			full = p.room.n > 0 || !p.fits(size)
		}
		if full && !block {
			p.stats.rejected++
			return nil, ErrBufferFull
		}
	}
	e := p.newEntry()
	e.key, e.hashKey, e.data, e.headers, e.size, e.hash = r.PartitionKey, r.ExplicitHashKey, r.Data, r.Headers, size, hash
	if full {
		p.room.push(e)
		return e, nil
	}
	p.accept(e, p.now())
	return e, nil
}

func (p *Producer) fits(size int) bool {
	return p.live < p.opts.BufferRecords && p.liveBytes+int64(size) <= p.opts.BufferBytes
}

func (p *Producer) accept(e *entry, now int64) {
	p.seq++
	e.state, e.seq, e.born = queued, p.seq, now
	p.live++
	p.liveBytes += int64(e.size)
	p.open++
	p.stats.received++
	p.ready.push(e)
	p.age.push(e)
}

// grant accepts entries that waited for room.
func (p *Producer) grant(now int64) {
	for e := p.room.head; e != nil && p.fits(e.size); e = p.room.head {
		p.room.remove(e)
		p.accept(e, now)
		if e.admit != nil {
			e.admit <- nil // has room for one
			e.admit = nil
		}
		if e.w != nil {
			p.urgent = e.seq
		}
	}
}

// refuseWaiting turns away the entries that wait for room.
func (p *Producer) refuseWaiting() {
	for e := p.room.head; e != nil; e = p.room.head {
		if e.admit != nil {
			p.room.remove(e)
			e.admit <- shardlog.ErrClosed
			continue
		}
		p.decide(e, Result{}, putError(shardlog.ErrClosed))
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
	p.room.remove(e)
	p.advance(p.now()) // the next one may be smaller
	return ended(ctx)
}

// arrived starts a sender for e, which was just accepted, if it may go.
func (p *Producer) arrived(e *entry) {
	p.kick(e.born)
	p.plan()
}

// kick starts a sender if there is something to send.
func (p *Producer) kick(now int64) {
	if p.senders < p.opts.MaxInFlight && p.due(now, p.senders) {
		p.senders++
		p.starting++
		go p.run()
	}
}

// due tells whether a request should be sent while there are others.
func (p *Producer) due(now int64, others int) bool {
	enough := p.ready.n >= p.opts.MaxBatchRecords*(p.starting+1) || p.ready.bytes >= p.opts.MaxBatchBytes*(p.starting+1)
	switch {
	case enough:
		return true
	case p.starting > 0: // will take what there is
		return false
	case p.sendq.head != nil:
		return true
	case p.ready.n == 0:
		return false
	case others == 0 && p.ready.head.seq <= p.urgent:
		return true
	}
	return now >= p.ready.head.born+p.wait(others)
}

// wait is how long a record may be held back while others are in flight.
func (p *Producer) wait(others int) int64 {
	if others == 0 {
		return int64(p.opts.Linger)
	}
	return max(int64(patience), int64(p.opts.Linger))
}

// request is a call of the sink.
type request struct {
	ctx     context.Context
	cancel  context.CancelFunc
	entries []*entry
	lanes   []*lane // of the entries' keys
	records []shardlog.Record
	bytes   int
	limit   int // of entries, which those that must be alone lower
	live    int // entries without a result
	next    *request
}

// add puts e into b if there is room for it.
func (b *request) add(e *entry, l *lane, maxBytes int) bool {
	limit := b.limit
	if e.alone > 0 {
		limit = min(limit, int(e.alone))
	}
	if n := len(b.entries); n >= limit || (n > 0 && b.bytes+e.size > maxBytes) {
		return false
	}
	e.in.remove(e)
	if l.req != b {
		l.req = b
		b.lanes = append(b.lanes, l)
	}
	b.limit = limit
	b.bytes += e.size
	b.live++
	b.entries = append(b.entries, e)
	e.state, e.lane, e.req = sending, l, b
	e.attempts++
	return true
}

// take fills b for one of the senders; it returns false if nothing is to be
// sent now.
func (p *Producer) take(b *request) bool {
	now := p.now()
	p.expire(now)
	p.promote(now)
	if !p.due(now, p.senders-1) {
		return false
	}
	b.bytes, b.live, b.limit = 0, 0, p.opts.MaxBatchRecords
	if p.takeLanes(b) {
		p.takeReady(b)
	}
	if len(b.entries) == 0 {
		return false
	}
	if t := p.opts.RequestTimeout; t > 0 {
		b.ctx, b.cancel = context.WithTimeoutCause(p.ctx, t, errTimeout)
	} else if b.ctx == nil || b.ctx.Err() != nil {
		// One that did not end serves the next request, too.
		b.ctx, b.cancel = context.WithCancel(p.ctx)
	}
	p.stats.requests++
	return true
}

// takeLanes takes from lanes that may go; it returns false when b is full.
func (p *Producer) takeLanes(b *request) bool {
	for p.sendq.head != nil {
		l := p.sendq.pop()
		for e := l.waiting.head; e != nil; e = l.waiting.head {
			if l.req == b && (p.strict || e.state == settled) {
				break // after the one before it
			}
			if e.state == settled {
				p.decide(e, e.out.res, e.out.err)
				continue
			}
			if !b.add(e, l, p.opts.MaxBatchBytes) {
				if l.req != b { // otherwise it comes back when b does
					p.sendq.pushFront(l)
				}
				return false
			}
		}
		if l.req != b {
			p.dropLane(l)
		}
	}
	return true
}

// takeReady takes from what arrived; entries whose key is in use go into its
// lane.
func (p *Producer) takeReady(b *request) {
	for e := p.ready.head; e != nil; e = p.ready.head {
		l := p.keys[e.hash]
		if l != nil && (l.req != b || l.waiting.n > 0 || p.strict) {
			p.ready.remove(e)
			l.waiting.push(e)
			continue
		}
		if l == nil {
			l = p.newLane(e.hash)
		}
		if !b.add(e, l, p.opts.MaxBatchBytes) {
			if l.req != b {
				p.dropLane(l)
			}
			return
		}
	}
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

// expire gives the entries whose time is over their result.
func (p *Producer) expire(now int64) {
	if p.ttl == 0 {
		return
	}
	for e := p.age.oldest; e != nil && now-e.born >= p.ttl; e = p.age.oldest {
		p.stats.expired++
		p.giveUp(e, both(ErrTTLExpired, e.lastCause()))
	}
}

// giveUp gives an entry that is not sent any more its result: why, if it has
// none yet.
func (p *Producer) giveUp(e *entry, why error) {
	if e.state == settled {
		p.decide(e, e.out.res, e.out.err)
		return
	}
	p.decide(e, Result{}, e.unstored(why))
}

// plan sets the timer to when there is something to do next.
func (p *Producer) plan() {
	if p.open == 0 {
		return
	}
	var at int64
	earlier := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	if p.ttl > 0 {
		earlier(p.age.oldest.born + p.ttl)
	}
	if len(p.backoff) > 0 {
		earlier(p.backoff[0].due)
	}
	if p.ready.n > 0 && p.senders < p.opts.MaxInFlight && p.starting == 0 {
		earlier(p.ready.head.born + p.wait(p.senders))
	}
	if at == 0 || (p.wake != 0 && p.wake <= at) {
		return
	}
	p.wake = at
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
	p.wake = 0
	if p.state == stateClosed {
		return
	}
	now := p.now()
	p.expire(now)
	p.promote(now)
	p.advance(now)
}

func (p *Producer) disarm() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.wake = 0
}
