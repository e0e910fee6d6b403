package consumer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
)

// abandonAfter is how long Run waits for handlers whose context has ended.
const abandonAfter = 5 * time.Second

// lifetime is how a run ends. It does so in up to three steps, each of which
// implies those before it: reading ends; the handlers' contexts end; calls of
// the store end, and Run no longer waits. Each step is the end of a context.
type lifetime struct {
	reading, handling, storing             context.Context
	stopReading, stopHandling, stopStoring context.CancelCauseFunc
	abandoned                              chan struct{} // closed by abandon

	mu     sync.Mutex
	errs   []error
	timers []*time.Timer
	ended  bool // timers are not needed any more
}

// newLifetime starts with a context that gives its values only: its end stops
// reading through Run, but handlers and checkpoints have more time.
func newLifetime(ctx context.Context) *lifetime {
	l := &lifetime{abandoned: make(chan struct{})}
	ctx = context.WithoutCancel(ctx)
	l.reading, l.stopReading = context.WithCancelCause(ctx)
	l.storing, l.stopStoring = context.WithCancelCause(ctx)
	l.handling, l.stopHandling = context.WithCancelCause(ctx)
	return l
}

// interrupt ends reading and the handlers' contexts.
func (l *lifetime) interrupt(cause error) {
	l.stopReading(cause)
	l.stopHandling(cause)
	l.after(abandonAfter, l.abandon)
}

// giveUp is interrupt without time for the store.
func (l *lifetime) giveUp() {
	l.stopStoring(shardlog.ErrClosed)
	l.interrupt(shardlog.ErrClosed)
}

func (l *lifetime) abandon() {
	l.stopStoring(ErrShutdown)
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.abandoned:
	default:
		close(l.abandoned)
	}
}

// after calls f later, unless the run has ended by then.
func (l *lifetime) after(d time.Duration, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.timers = append(l.timers, time.AfterFunc(d, f))
	}
}

// end stops the timers.
func (l *lifetime) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, t := range l.timers {
		t.Stop()
	}
}

// record adds an error that Run is to return.
func (l *lifetime) record(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

// closed reports whether Close was called.
func (l *lifetime) closed() bool { return errors.Is(context.Cause(l.storing), shardlog.ErrClosed) }

// errors are those that were recorded.
func (l *lifetime) errors() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]error(nil), l.errs...)
}
