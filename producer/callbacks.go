package producer

import (
	"log/slog"
	"runtime/debug"
)

// callbackRun is how many callbacks run before the room of their records is
// free again.
const callbackRun = 256

// runCallbacks calls callbacks until none is left. Only one goroutine does so at
// a time: the one that outbox.startCallbacks chose. It begins with d.
func (p *Producer) runCallbacks(d delivery) {
	calling := false
	defer func() {
		if calling { // a callback ended the goroutine with runtime.Goexit
			go p.runCallbacks(d)
		}
	}()
	defer p.callbacks.Leave(p.callbacks.Enter())
	p.mu.Lock()
	for {
		p.core.freeDelivered(&d)
		if d.isEmpty() {
			d = p.core.outbox.cut(callbackRun)
		}
		if d.isEmpty() {
			break
		}
		p.core.advance(p.now())
		p.unlock()
		calling = true
		for callback, res, err := d.take(); callback != nil; callback, res, err = d.take() {
			p.runCallback(callback, res, err)
		}
		calling = false
		p.mu.Lock()
	}
	p.core.outbox.running = false
	p.core.advance(p.now())
	p.unlock()
}

// runCallback calls a callback.
func (p *Producer) runCallback(callback func(Result, error), res Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			p.onCallbackPanic(v)
		}
	}()
	callback(res, err)
}

func (p *Producer) onCallbackPanic(v any) {
	err := &PanicError{Value: v, Stack: debug.Stack()}
	p.mu.Lock()
	p.core.stats.panics++
	p.unlock()
	p.notePanic(err)
	p.log(func(l *slog.Logger) {
		l.Error("a callback panicked", slog.Any("panic", v), slog.String("stack", string(err.Stack)))
	})
}

// log calls the logger, whose handler is not ours. It is called without mu.
func (p *Producer) log(f func(l *slog.Logger)) {
	defer func() {
		if v := recover(); v != nil {
			p.notePanic(&PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	f(p.conf.Logger)
}

// notePanic keeps the first panic for Shutdown.
func (p *Producer) notePanic(err *PanicError) {
	p.mu.Lock()
	if p.panicked == nil {
		p.panicked = err
	}
	p.unlock()
}

// insideCallbackLocked reports whether the caller is a callback. The caller holds mu,
// which is released meanwhile.
func (p *Producer) insideCallbackLocked() bool {
	if !p.core.outbox.running {
		return false
	}
	p.unlock()
	inside := p.callbacks.Inside()
	p.mu.Lock()
	return inside
}
