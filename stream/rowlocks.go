package stream

import (
	"context"
	"sync"

	"github.com/shardlog/shardlog"
)

// rowLocks let one writer at a time decide on a checkpoint row and store it, so
// that a transaction can compare a row before its records get their numbers,
// and the row is still the same when they are stored. A transaction locks its rows
// in the order of their keys, so that two cannot wait for each other. A lock is
// released when the outcome is known, which may be after its caller has left.
type rowLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is released
}

// lock waits for the row with the key.
func (r *rowLocks) lock(ctx context.Context, key []byte, quit <-chan struct{}) error {
	for {
		r.mu.Lock()
		c, taken := r.held[string(key)]
		if !taken {
			if r.held == nil {
				r.held = map[string]chan struct{}{}
			}
			r.held[string(key)] = make(chan struct{})
		}
		r.mu.Unlock()
		if !taken {
			return nil
		}
		select {
		case <-c:
		case <-ctx.Done():
			return shardlog.ContextError(ctx)
		case <-quit:
			return shardlog.ErrClosed
		}
	}
}

func (r *rowLocks) unlock(key []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.held[string(key)])
	delete(r.held, string(key))
}
