// Package ctxsync has locks whose waiters respect a context. They are for state
// that is held across a commit, which may take as long as the disk does.
package ctxsync

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/shardlog/shardlog"
)

// Mutex is a mutex whose waiters respect a context. Use NewMutex.
type Mutex chan struct{}

// NewMutex returns an unlocked Mutex.
func NewMutex() Mutex { return make(Mutex, 1) }

// Lock locks m. If ctx ends first it returns the cause, and m is not locked.
// It does not look at ctx where m is free.
func (m Mutex) Lock(ctx context.Context) error {
	select {
	case m <- struct{}{}:
		return nil
	default:
	}
	select {
	case m <- struct{}{}:
		return nil
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	}
}

// Unlock unlocks m.
func (m Mutex) Unlock() { <-m }

// RWMutex is a readers-writer lock whose waiters respect a context. Like
// sync.RWMutex it prefers writers: a waiting writer keeps new readers out; and
// when a writer leaves, the readers that wait enter before the next writer, so
// neither side starves. RLock must not be called by a goroutine that holds a
// read lock already. Use NewRWMutex.
//
// Without a writer RLock and RUnlock are one atomic addition each, because
// every put takes them.
type RWMutex struct {
	// state is the number of readers that are inside, less writerPresent while
	// a writer waits or is inside. A reader that finds a writer counts itself
	// for a moment, too.
	state atomic.Int64

	turn    Mutex         // held by the one writer that waits or is inside
	drained chan struct{} // one token: state may have reached -writerPresent

	mu      sync.Mutex    // guards waiting and gate; never held across a wait
	waiting int64         // readers that wait for the writer to leave
	gate    chan struct{} // closed when the writer leaves; then waiting readers are inside
}

// writerPresent is above any number of readers.
const writerPresent = 1 << 40

// NewRWMutex returns an unlocked RWMutex.
func NewRWMutex() *RWMutex {
	return &RWMutex{turn: NewMutex(), drained: make(chan struct{}, 1)}
}

// RLock lets a reader in. If ctx ends before it may enter, it returns the
// cause, and the reader is not in. It does not look at ctx where nothing is in
// the way.
func (l *RWMutex) RLock(ctx context.Context) error {
	if l.state.Add(1) > 0 {
		return nil
	}
	return l.rLockSlow(ctx)
}

// rLockSlow waits for a writer to leave, for a reader that has counted itself.
func (l *RWMutex) rLockSlow(ctx context.Context) error {
	l.mu.Lock()
	// A writer removes writerPresent with mu held. So if it is still there the
	// writer's Unlock comes later and counts the readers that wait by then.
	if l.state.Load() > 0 {
		l.mu.Unlock()
		return nil
	}
	l.waiting++
	gate := l.gate
	l.mu.Unlock()
	l.RUnlock() // Unlock counts it again
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	select {
	case <-gate: // it was let in meanwhile
		l.mu.Unlock()
		l.RUnlock()
	default:
		l.waiting--
		l.mu.Unlock()
	}
	return shardlog.ContextError(ctx)
}

// RUnlock lets a reader out.
func (l *RWMutex) RUnlock() {
	if l.state.Add(-1) == -writerPresent {
		select {
		case l.drained <- struct{}{}:
		default: // a token is there already, and the writer looks again
		}
	}
}

// Lock waits until all readers have left and no other writer is inside, and
// keeps both out. If ctx ends first it returns the cause, and l is not locked.
func (l *RWMutex) Lock(ctx context.Context) error {
	if err := l.turn.Lock(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	l.gate = make(chan struct{})
	l.state.Add(-writerPresent)
	l.mu.Unlock()
	for l.state.Load() != -writerPresent {
		select {
		case <-l.drained:
		case <-ctx.Done():
			l.Unlock()
			return shardlog.ContextError(ctx)
		}
	}
	return nil
}

// Unlock lets the readers that wait in, and then the next writer.
func (l *RWMutex) Unlock() {
	l.mu.Lock()
	l.state.Add(writerPresent + l.waiting)
	l.waiting = 0
	close(l.gate)
	l.mu.Unlock()
	l.turn.Unlock()
}
