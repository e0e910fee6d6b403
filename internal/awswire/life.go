package awswire

import (
	"context"
	"sync"
)

// Life is how long an endpoint serves, and what it waits for at its end: calls
// that wait for something, and work in the background. Use NewLife. It is safe
// for concurrent use.
type Life struct {
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.RWMutex // for closed; work.Add is called under it
	closed bool
}

// NewLife returns a life that Close ends.
func NewLife() *Life {
	l := &Life{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Context returns a context that ends when the endpoint is closed.
func (l *Life) Context() context.Context { return l.ctx }

// Closed reports whether Close was called.
func (l *Life) Closed() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.closed
}

// Enter announces something that Close has to wait for, and reports whether it
// may begin: it may not after Close. Leave is to be called at its end, which
// must come soon after Context has ended.
func (l *Life) Enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.work.Add(1)
	return true
}

// Leave is the end of what Enter announced.
func (l *Life) Leave() { l.work.Done() }

// Close ends the life and waits for all that has entered. It is idempotent.
func (l *Life) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.work.Wait()
}
