package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/shardlog/shardlog"
)

// pauses says which shards are not to be delivered now, and which are to be
// delivered from elsewhere.
type pauses struct {
	mu     sync.Mutex
	all    bool
	shards map[string]bool
	seeks  map[string]*seek
	change chan struct{} // closed and replaced at each change
}

// seek is a request to continue from another position.
type seek struct {
	// d is the work that was asked. A later task of the shard must not carry
	// the request out, because the caller was given an error.
	d    *duty
	pos  shardlog.Position
	done chan struct{} // closed when err is set
	err  error
}

// changed returns a channel that the next change closes.
func (p *pauses) changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.change == nil {
		p.change = make(chan struct{})
	}
	return p.change
}

func (p *pauses) update(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.notify()
}

// notify lets the tasks look again. The caller holds mu.
func (p *pauses) notify() {
	if p.change != nil {
		close(p.change)
		p.change = nil
	}
}

// waits is seeking for a caller that holds mu.
func (p *pauses) waits(d *duty) bool {
	s := p.seeks[d.id]
	return s != nil && s.d == d
}

// seeking reports whether a seek waits for a task.
func (p *pauses) seeking(d *duty) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits(d)
}

func (p *pauses) paused(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all || p.shards[id]
}

// wants reports whether answerRequests has something to do for a task.
func (p *pauses) wants(d *duty) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all || p.shards[d.id] || p.waits(d)
}

// take returns the seek that waits for a task, and removes it.
func (p *pauses) take(d *duty) *seek {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seeks[d.id]
	if s == nil || s.d != d {
		return nil
	}
	delete(p.seeks, d.id)
	return s
}

// withdraw removes a seek that no task has begun to carry out. False means
// that one has, or that a later seek has replaced it.
func (p *pauses) withdraw(s *seek) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seeks[s.d.id] != s {
		return false
	}
	delete(p.seeks, s.d.id)
	p.notify() // a task may have stopped beginning anything because of it
	return true
}

// await waits until a seek is carried out, or makes sure that it will not be.
func (p *pauses) await(ctx context.Context, s *seek) error {
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		if p.withdraw(s) {
			return shardlog.ContextError(ctx)
		}
		select {
		case <-s.done:
			return s.err
		default:
			return fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, shardlog.ContextError(ctx))
		}
	case <-s.d.ended: // the shard may be parked, and its lease continue
		if !p.withdraw(s) {
			<-s.done
			return s.err
		}
		if cause := context.Cause(s.d.storing); errors.Is(cause, ErrLeaseLost) {
			return cause
		}
		return ErrLeaseNotHeld
	case <-s.d.storing.Done():
		if !p.withdraw(s) {
			<-s.done // soon: the task writes no more
			return s.err
		}
		switch cause := context.Cause(s.d.storing); {
		case errors.Is(cause, context.Canceled):
			return ErrLeaseNotHeld // the task gave the shard back
		default:
			return cause
		}
	}
}
