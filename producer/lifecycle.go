package producer

import (
	"context"
	"log/slog"

	"github.com/shardlog/shardlog"
)

// Flush sends what is in the buffer without lingering, and returns when every
// record that was accepted before has its result and its callback has returned.
// It does not keep others from putting more. It does not report what the
// results are.
//
// The error matches that of ctx when it ends first, and shardlog.ErrClosed after
// the end of the producer. If ctx has ended before the call, Flush changes
// nothing. If it ends during the call, what Flush has begun continues: the
// records go without lingering, as if Flush had returned nil. Neither changes
// what is stored. From inside a callback, Flush waits for the results, but for
// no callback.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	inside := p.insideCallbackLocked()
	if p.core.life == stateClosed {
		p.unlock()
		return &shardlog.Error{Op: "flush", Err: shardlog.ErrClosed}
	}
	f := p.core.addFlush(inside)
	if f.left > 0 && ctx.Err() != nil {
		p.core.outbox.removeFlush(f)
		p.unlock()
		return &shardlog.Error{Op: "flush", Err: shardlog.ContextError(ctx)}
	}
	p.core.flushThrough(p.core.buffer.seq)
	p.core.advance(p.now())
	p.unlock()
	if isDone(ctx, f.ch) {
		return nil
	}
	p.mu.Lock()
	p.core.outbox.removeFlush(f)
	p.unlock()
	return &shardlog.Error{Op: "flush", Err: shardlog.ContextError(ctx)}
}

// isDone waits until ch is closed, and reports true, or until ctx ends. If both
// have happened it reports true.
func isDone(ctx context.Context, ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
	}
	select {
	case <-ch:
		return true
	case <-ctx.Done():
		return false
	}
}

// Shutdown accepts no more records, sends what is in the buffer, and returns
// when every record has its result, the callbacks have returned and no goroutine
// of the producer is left. Calls that wait for room get shardlog.ErrClosed.
//
// When ctx ends first, the producer is closed: the records without a result get
// one, as by Close, and Shutdown returns an *IncompleteError immediately. That
// matches shardlog.ErrUnknownOutcome if some of the records may be stored, or
// may be later, because the sink may carry out a request that was cut off.
// Their callbacks may still run after Shutdown has returned; another Shutdown
// waits for them. If a callback or the logger has panicked, Shutdown returns a
// *PanicError, after everything else has ended.
//
// From inside a callback Shutdown waits for the results, but for no callback.
// It may be called more than once; after Close it waits for what is still
// running.
func (p *Producer) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	inside := p.insideCallbackLocked()
	p.core.drain()
	done := p.finished
	var f *flush
	if inside {
		f = p.core.addFlush(true)
		done = f.ch
	}
	p.core.advance(p.now())
	p.unlock()
	if isDone(ctx, done) {
		return p.panicError()
	}
	p.mu.Lock()
	if f != nil {
		p.core.outbox.removeFlush(f)
	}
	left, inDoubt := p.core.closeNow(p.now())
	p.unlock()
	p.logIncomplete(left)
	return &IncompleteError{Left: left, InDoubt: inDoubt, Err: shardlog.ContextError(ctx)}
}

func (p *Producer) panicError() error {
	p.mu.Lock()
	defer p.unlock()
	if p.panicked == nil {
		return nil
	}
	return p.panicked
}

// Close gives up: it accepts no more records, ends the context of the requests
// in flight, and returns immediately. Records without a result get one: an error
// that matches shardlog.ErrUnknownOutcome if the record may be stored, or may be
// later, and otherwise shardlog.ErrClosed. Callbacks may run after Close has
// returned; Shutdown waits for them. Close always returns nil and may be called
// more than once.
func (p *Producer) Close() error {
	p.mu.Lock()
	left, _ := p.core.closeNow(p.now())
	p.unlock()
	p.logIncomplete(left)
	return nil
}

func (p *Producer) logIncomplete(left int) {
	if left > 0 {
		p.log(func(l *slog.Logger) {
			l.Warn("closed with records that are not known to be stored", slog.Int("records", left))
		})
	}
}
