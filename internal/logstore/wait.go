package logstore

import (
	"context"
	"math"
	"time"

	"github.com/shardlog/shardlog"
)

// change makes what f makes of the view of s the one that is readable, and wakes the
// readers that wait. It is for the committer: f is called with Log.mu held.
func (s *Shard) change(f func(v *view)) {
	s.log.mu.Lock()
	v := *s.view()
	f(&v)
	s.set(&v)
	s.log.mu.Unlock()
	s.notify()
}

// notify wakes the readers that wait.
func (s *Shard) notify() {
	// A waiter counts itself before it looks at the view, so either it sees
	// the new view or it is counted here.
	if s.waiters.Load() == 0 {
		return
	}
	s.waitMu.Lock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	s.waitMu.Unlock()
}

// onChange returns a channel that is closed when a view after now is visible.
// The caller must have added itself to waiters, and look at the view after.
func (s *Shard) onChange() <-chan struct{} {
	s.waitMu.Lock()
	defer s.waitMu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// waitFor waits until the shard has a record with the counter or a later one,
// was closed, or the timer fired, and returns the view of that moment.
func (s *Shard) waitFor(ctx context.Context, counter uint64, timeout <-chan time.Time) (*view, error) {
	s.waiters.Add(1)
	defer s.waiters.Add(-1)
	for {
		changed := s.onChange()
		v := s.view()
		if v.last >= counter || v.closed {
			return v, nil
		}
		select {
		case <-changed:
		case <-timeout:
			return s.view(), nil
		case <-ctx.Done():
			return nil, shardlog.ContextError(ctx)
		case <-s.log.quit:
			return nil, shardlog.ErrClosed
		}
	}
}

// untilDue waits for the time of an early position, the end of the shard, or
// the end of wait, and returns the view of that moment.
func (s *Shard) untilDue(ctx context.Context, p shardlog.Position, wait time.Duration) (*view, error) {
	v := s.view()
	if wait <= 0 || v.closed {
		return v, nil
	}
	t := time.NewTimer(min(wait, time.Until(p.Time())))
	defer t.Stop()
	return s.waitFor(ctx, math.MaxUint64, t.C)
}
