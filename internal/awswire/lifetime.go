package awswire

import (
	"context"
	"sync"
)

// Lifetime is how long an endpoint serves, and what it waits for at its end: calls
// that wait for something, and work in the background. Use NewLifetime. It is safe
// for concurrent use.
type Lifetime struct {
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.RWMutex // for closed; work.Add is called under it
	closed bool
}

// NewLifetime returns a lifetime that Close ends.
func NewLifetime() *Lifetime {
	l := &Lifetime{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Context returns a context that ends when the endpoint is closed.
func (l *Lifetime) Context() context.Context { return l.ctx }

// Closed reports whether Close was called.
func (l *Lifetime) Closed() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.closed
}

// Enter announces something that Close has to wait for, and reports whether it
// may begin: it may not after Close. Leave is to be called at its end, which
// must come soon after Context has ended.
func (l *Lifetime) Enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.work.Add(1)
	return true
}

// Leave is the end of what Enter announced.
func (l *Lifetime) Leave() { l.work.Done() }

// Close ends the lifetime and waits for all that has entered. It is idempotent.
func (l *Lifetime) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.work.Wait()
}
