package logstore

import (
	"context"
	"time"
)

// A write stall is what keeps writers from outrunning retention and space
// reclaiming, and filling the disk with dead bytes. While the owner of the log
// is behind by more than a little, each write waits until it has caught up, and
// at most maxStall: so writers go about as fast as space is given back.

// maxStall is the longest that one write waits.
const maxStall = 20 * time.Millisecond

// CaughtUp is called by the owner when it has done what Wake asked for, as
// much as possible: writers that wait for it continue.
func (l *Log) CaughtUp() {
	l.stalled.Store(false) // the next commit says whether it still does
	l.mu.Lock()
	if l.caughtUp != nil {
		close(l.caughtUp)
		l.caughtUp = nil
	}
	l.mu.Unlock()
}

// Stalled reports whether writers are stalled because the owner does not keep up.
func (l *Log) Stalled() bool { return l.stalled.Load() }

// requireOwner notes that the owner does not keep up, and calls for it.
func (l *Log) requireOwner() {
	if !l.stalls {
		return
	}
	l.stalled.Store(true)
	l.opts.Wake()
}

// stall waits until the owner has caught up, at most maxStall. It is called with mu held, and
// holds it again when it returns.
func (l *Log) stall(ctx context.Context) {
	if l.caughtUp == nil {
		l.caughtUp = make(chan struct{})
	}
	caughtUp := l.caughtUp
	l.mu.Unlock()
	defer l.mu.Lock()
	t := time.NewTimer(maxStall)
	defer t.Stop()
	select {
	case <-caughtUp:
	case <-t.C:
	case <-l.quit:
	case <-ctx.Done(): // for the caller to look at
	}
}

// exceeds reports whether more is over a limit than the owner's way of working
// explains.
func (u *Usage) exceeds(total, limit int64) bool {
	return limit > 0 && total > limit+max(stallOver, limit/8)
}
