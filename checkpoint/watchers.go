package checkpoint

import (
	"context"
	"sync"
)

// Watchers is the part of a store in one process that makes it a Watcher: the
// store calls Changed after each write, and Watch is its method Watch. The zero
// value is ready for use, and safe for concurrent use.
type Watchers struct {
	mu    sync.Mutex
	chans map[groupStream]map[chan struct{}]struct{}
}

type groupStream struct{ group, stream string }

// Watch implements Watcher.
func (w *Watchers) Watch(ctx context.Context, group, stream string) <-chan struct{} {
	k := groupStream{group, stream}
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chans == nil {
		w.chans = map[groupStream]map[chan struct{}]struct{}{}
	}
	if w.chans[k] == nil {
		w.chans[k] = map[chan struct{}]struct{}{}
	}
	w.chans[k][c] = struct{}{}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.chans[k], c)
		if len(w.chans[k]) == 0 {
			delete(w.chans, k)
		}
	})
	return c
}

// Changed notifies those who watch the row's group and stream that it was written.
// Before is what it was, or nil when it was created; after is nil when it was
// deleted. It does not block, and does nothing for a change that does not
// matter to them, such as a checkpoint.
func (w *Watchers) Changed(before, after *Lease) {
	k := after
	if k == nil {
		k = before
	}
	if before != nil && after != nil && before.Owner == after.Owner && before.Next == after.Next && before.Ended == after.Ended {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.chans[groupStream{k.Group, k.Stream}] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
