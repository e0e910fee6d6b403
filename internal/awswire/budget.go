package awswire

import (
	"context"
	"sync"

	"github.com/shardlog/shardlog"
)

// MaxPooled is the largest buffer that is kept for the next request. One
// enormous request must not keep its memory for ever.
const MaxPooled = 2 << 20

// Buffers are byte slices for bodies and answers.
var Buffers = sync.Pool{New: func() any { return new([]byte) }}

// Budget bounds the bytes that are in use at the same time. It is safe for
// concurrent use.
type Budget struct {
	mu      sync.Mutex
	left    int64
	waiting []reservation // first come, first served
}

// reservation is a request for bytes that has to wait.
type reservation struct {
	n       int64
	granted chan struct{}
}

// NewBudget returns a budget of n bytes.
func NewBudget(n int64) *Budget { return &Budget{left: n} }

// Left returns how many bytes are not in use.
func (b *Budget) Left() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// Reserve waits for n bytes, first come, first served: a large request is not
// overtaken by small ones for ever. If ctx ends, the error is that of
// shardlog.ContextError. N must not be more than the whole budget: it would
// wait for ever.
func (b *Budget) Reserve(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.left >= n {
		b.left -= n
		b.mu.Unlock()
		return nil
	}
	r := reservation{n, make(chan struct{})}
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	select {
	case <-r.granted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	for i := range b.waiting {
		if b.waiting[i].granted == r.granted {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			// Those behind it may fit into what it waited for.
			b.grant()
			b.mu.Unlock()
			return shardlog.ContextError(ctx)
		}
	}
	b.mu.Unlock()
	return nil // granted while ctx ended: the bytes are the caller's
}

// Release returns n bytes.
func (b *Budget) Release(n int64) {
	b.mu.Lock()
	b.left += n
	b.grant()
	b.mu.Unlock()
}

// grant serves those at the head of the queue that fit; mu is held.
func (b *Budget) grant() {
	for len(b.waiting) > 0 && b.left >= b.waiting[0].n {
		b.left -= b.waiting[0].n
		close(b.waiting[0].granted)
		b.waiting = b.waiting[1:]
	}
}
