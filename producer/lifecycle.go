package producer

import (
	"context"
	"log/slog"
	"math"
	"slices"

	"github.com/shardlog/shardlog"
)

// flush is a call that waits for the entries up to a number.
type flush struct {
	seq         uint64
	left        int
	resultsOnly bool // waits for results only, not for callbacks
	ch          chan struct{}
}

// addFlush makes a flusher for what is in the buffer.
func (p *Producer) addFlush(decision bool) *flush {
	f := &flush{seq: p.seq, left: p.records, resultsOnly: decision, ch: make(chan struct{})}
	if decision {
		f.left = p.undecided
	}
	if f.left == 0 {
		close(f.ch)
	} else {
		p.flushes = append(p.flushes, f)
	}
	return f
}

// noteFlushed counts an entry that has its result or is finished.
func (p *Producer) noteFlushed(seq uint64, decision bool) {
	p.flushes = slices.DeleteFunc(p.flushes, func(f *flush) bool {
		if f.resultsOnly != decision || seq > f.seq {
			return false
		}
		f.left--
		if f.left == 0 {
			close(f.ch)
		}
		return f.left == 0
	})
}

func (p *Producer) removeFlush(f *flush) {
	p.flushes = slices.DeleteFunc(p.flushes, func(o *flush) bool { return o == f })
}

// Flush sends what is in the buffer without lingering, and returns when every
// record that was taken before has its result and its callback has returned.
// It does not keep others from putting more. It tells nothing of what the
// results are.
//
// The error matches that of ctx when it ends first, which changes nothing for
// the records, and shardlog.ErrClosed after the end of the producer. From
// inside a callback, Flush waits for the results, but for no callback.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	inside := p.inside()
	if p.state == stateClosed {
		p.unlock()
		return &shardlog.Error{Op: "flush", Err: shardlog.ErrClosed}
	}
	p.flushUpTo = max(p.flushUpTo, p.seq)
	f := p.addFlush(inside)
	p.advance(p.now())
	p.unlock()
	select {
	case <-f.ch:
		return nil
	default:
	}
	select {
	case <-f.ch:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.removeFlush(f)
	p.unlock()
	return &shardlog.Error{Op: "flush", Err: endOf(ctx)}
}

// Shutdown takes no more records, sends what is in the buffer, and returns when
// every record has its result, the callbacks have returned and no goroutine of
// the producer is left. Calls that wait for room get shardlog.ErrClosed.
//
// When ctx ends first, the records without a result get one, as by Close, and
// Shutdown returns an *IncompleteError at once. If a callback or the logger has
// panicked, Shutdown returns a *PanicError.
//
// From inside a callback Shutdown waits for the results, but for no callback.
// It may be called more than once; after Close it waits for what is still
// running.
func (p *Producer) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	inside := p.inside()
	if p.state == stateOpen {
		p.state = stateDraining
		p.flushUpTo = math.MaxUint64
		p.refuseWaiting()
	}
	ended := p.finished
	var f *flush
	if inside {
		f = p.addFlush(true)
		ended = f.ch
	}
	p.advance(p.now())
	p.unlock()
	select {
	case <-ended:
		return p.panicError()
	default:
	}
	select {
	case <-ended:
		return p.panicError()
	case <-ctx.Done():
	}
	p.mu.Lock()
	if f != nil {
		p.removeFlush(f)
	}
	left := p.closeNow()
	p.unlock()
	p.logIncomplete(left)
	return &IncompleteError{Left: left, Err: context.Cause(ctx)}
}

func (p *Producer) panicError() error {
	p.mu.Lock()
	defer p.unlock()
	if p.panicked == nil {
		return nil
	}
	return p.panicked
}

// Close gives up: it takes no more records, ends the context of the requests
// in flight, and returns at once. Records without a result get one: an error
// that matches shardlog.ErrUnknownOutcome if the record may be stored, and else
// shardlog.ErrClosed. Callbacks may run after Close has returned; Shutdown
// waits for them. Close always returns nil and may be called more than once.
func (p *Producer) Close() error {
	p.mu.Lock()
	left := p.closeNow()
	p.unlock()
	p.logIncomplete(left)
	return nil
}

// closeNow gives every record without a result one, and returns how many these were.
func (p *Producer) closeNow() (left int) {
	if p.state == stateClosed {
		return 0
	}
	p.state = stateClosed
	p.refuseWaiting()
	for e := p.age.oldest; e != nil; e = p.age.oldest {
		if e.state != resultHeld || e.outcome.err != nil {
			left++
		}
		p.giveUp(e, closedError(e))
	}
	p.disarm()
	p.cancel(shardlog.ErrClosed)
	p.advance(p.now())
	return left
}

func (p *Producer) logIncomplete(left int) {
	if left > 0 {
		p.log(func(l *slog.Logger) {
			l.Warn("closed with records that are not known to be stored", slog.Int("records", left))
		})
	}
}
