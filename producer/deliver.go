package producer

import (
	"log/slog"
	"runtime/debug"
)

// decide gives an entry its result, the only one. Whoever waits for it is told
// when mu is released; a callback is queued.
func (p *Producer) decide(e *entry, res *Result, err error) {
	switch e.state {
	case inRoom: // was never counted
		p.room.remove(e)
		e.deliver(&e.w.out[e.index], res, err)
		p.told(e.w)
		return
	case queued, settled:
		if e.in != nil {
			e.in.remove(e)
		}
	case sending:
		if b := e.req; b != nil {
			if b.live--; b.live == 0 {
				b.cancel() // nobody waits for it any more
			}
		}
	case parked:
		if b := e.req; b.live > 1 {
			b.live--
		} else {
			defer p.unpark(b)
		}
	}
	e.state = decided
	p.age.remove(e)
	p.open--
	if e.attempts > 1 {
		p.stats.retried.add(int64(e.attempts - 1))
	}
	if err == nil {
		p.stats.put++
		p.stats.putBytes += uint64(e.size)
	} else {
		p.stats.failed++
	}
	if len(p.flushers) > 0 {
		p.flushed(e.seq, true)
	}
	switch {
	case e.w != nil:
		e.deliver(&e.w.out[e.index], res, err)
		p.told(e.w)
		p.finish(e)
	case e.done == nil:
		p.finish(e)
	default:
		e.deliver(&e.out, res, err)
		p.outbox.push(e)
	}
}

// deliver puts the result of an entry to where it is wanted.
func (e *entry) deliver(to *outcome, res *Result, err error) {
	attempts := e.out.res.Attempts
	to.set, to.res, to.err = true, *res, err
	to.res.Sends = int(e.attempts)
	if to.res.Attempts == nil {
		to.res.Attempts = attempts
	}
}

// told counts a result that a waiter got.
func (p *Producer) told(w *waiter) {
	if w.left--; w.left == 0 {
		w.next, p.wakes = p.wakes, w
	}
}

// finish makes the room of an entry free; callers see to it that p.grant is
// called.
func (p *Producer) finish(e *entry) {
	p.live--
	p.liveBytes -= int64(e.size)
	if len(p.flushers) > 0 {
		p.flushed(e.seq, false)
	}
	p.recycle(e)
}

// delivery is the work of a goroutine that runs callbacks: of a chain of
// entries, first to next were called, the rest is still to be.
type delivery struct {
	first, next *entry
}

// deliverySize is how many callbacks run before the room of their records is
// free again.
const deliverySize = 256

// dispatch runs callbacks until none is left. Only one goroutine does at a
// time, which p.dispatching says.
func (p *Producer) dispatch(d *delivery) {
	calling := false
	defer func() {
		if calling { // a callback called runtime.Goexit
			go p.dispatch(d)
		}
	}()
	defer p.callbacks.Leave(p.callbacks.Enter())
	p.mu.Lock()
	for {
		for d.first != d.next {
			e := d.first
			d.first = e.next
			e.next = nil
			p.finish(e)
		}
		if d.first == nil {
			d.first = p.outbox.take(deliverySize)
			d.next = d.first
		}
		if d.first == nil {
			break
		}
		p.advance(p.now())
		p.unlock()
		calling = true
		for d.next != nil {
			e := d.next
			d.next = e.next
			p.callback(e)
		}
		calling = false
		p.mu.Lock()
	}
	p.dispatching = false
	p.advance(p.now())
	p.unlock()
}

// callback runs the callback of e.
func (p *Producer) callback(e *entry) {
	defer func() {
		if v := recover(); v != nil {
			p.callbackPanicked(v)
		}
	}()
	e.done(e.out.res, e.out.err)
}

func (p *Producer) callbackPanicked(v any) {
	err := &PanicError{Value: v, Stack: debug.Stack()}
	p.mu.Lock()
	p.stats.panics++
	p.unlock()
	p.notePanic(err)
	p.log(func(l *slog.Logger) {
		l.Error("a callback panicked", slog.Any("panic", v), slog.String("stack", string(err.Stack)))
	})
}

// notePanic keeps the first panic for Shutdown.
func (p *Producer) notePanic(err *PanicError) {
	p.mu.Lock()
	if p.panicked == nil {
		p.panicked = err
	}
	p.unlock()
}

// inside tells whether the caller is a callback. It releases mu meanwhile.
func (p *Producer) inside() bool {
	if !p.dispatching {
		return false
	}
	p.unlock()
	defer p.mu.Lock()
	return p.callbacks.Inside()
}
