package producer

import (
	"log/slog"
	"runtime/debug"
)

// decide gives an entry its result, the only one. Whoever waits for it is told
// when mu is released; a callback is queued.
func (p *Producer) decide(e *entry, res *Result, err error) {
	switch e.state {
	case awaitsRoom: // was never counted
		p.waiting.remove(e)
		e.deliver(&e.waiter.out[e.outIndex], res, err)
		p.noteResult(e.waiter)
		return
	case queued, resultHeld:
		if e.in != nil {
			e.in.remove(e)
		}
	case inRequest:
		if b := e.carrier; b != nil {
			if b.undecided--; b.undecided == 0 {
				b.cancel() // nobody waits for it any more
			}
		}
	case awaitsResend:
		if b := e.carrier; b.undecided > 1 {
			b.undecided--
		} else {
			defer p.dropInDoubt(b)
		}
	}
	e.state = decided
	p.age.remove(e)
	p.undecided--
	if e.attempts > 1 {
		p.stats.retried.add(int64(e.attempts - 1))
	}
	if err == nil {
		p.stats.put++
		p.stats.putBytes += uint64(e.size)
	} else {
		p.stats.failed++
	}
	if len(p.flushes) > 0 {
		p.noteFlushed(e.seq, true)
	}
	switch {
	case e.waiter != nil:
		e.deliver(&e.waiter.out[e.outIndex], res, err)
		p.noteResult(e.waiter)
		p.freeEntry(e)
	case e.callback == nil:
		p.freeEntry(e)
	default:
		e.deliver(&e.outcome, res, err)
		p.outbox.push(e)
	}
}

// deliver puts the result of an entry to where it is wanted.
func (e *entry) deliver(to *outcome, res *Result, err error) {
	attempts := e.outcome.res.Attempts
	to.set, to.res, to.err = true, *res, err
	to.res.Sends = int(e.attempts)
	if to.res.Attempts == nil {
		to.res.Attempts = attempts
	}
}

// noteResult counts a result that a waiter got.
func (p *Producer) noteResult(w *waiter) {
	if w.left--; w.left == 0 {
		w.next, p.notify = p.notify, w
	}
}

// freeEntry makes the room of an entry free; callers see to it that p.admitWaiting is
// called.
func (p *Producer) freeEntry(e *entry) {
	p.records--
	p.bytes -= int64(e.size)
	if len(p.flushes) > 0 {
		p.noteFlushed(e.seq, false)
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

// runCallbacks runs callbacks until none is left. Only one goroutine does at a
// time, which p.dispatching says.
func (p *Producer) runCallbacks(d *delivery) {
	calling := false
	defer func() {
		if calling { // a callback called runtime.Goexit
			go p.runCallbacks(d)
		}
	}()
	defer p.callbacks.Leave(p.callbacks.Enter())
	p.mu.Lock()
	for {
		for d.first != d.next {
			e := d.first
			d.first = e.next
			e.next = nil
			p.freeEntry(e)
		}
		if d.first == nil {
			d.first = p.outbox.cut(deliverySize)
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
			p.runCallback(e)
		}
		calling = false
		p.mu.Lock()
	}
	p.callbacksRun = false
	p.advance(p.now())
	p.unlock()
}

// runCallback runs the callback of e.
func (p *Producer) runCallback(e *entry) {
	defer func() {
		if v := recover(); v != nil {
			p.callbackPanicked(v)
		}
	}()
	e.callback(e.outcome.res, e.outcome.err)
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
	if !p.callbacksRun {
		return false
	}
	p.unlock()
	defer p.mu.Lock()
	return p.callbacks.Inside()
}
