package logstore

import (
	"context"
	"time"
)

// Retention and space reclaiming run beside the writers, who could outrun them
// and fill the disk with what is dead. So where they lag behind by more than a
// little, each write first waits until the owner of the log has come caughtUp,
// though never for long: then writers go about as fast as space is given back.

// maxStall is the longest that a write is held up.
const maxStall = 20 * time.Millisecond

// CaughtUp is called by the owner when it has done what Wake asked for, as far as
// it could: writers that wait for it go on.
func (l *Log) CaughtUp() {
	l.stalled.Store(false) // the next commit says whether it still does
	l.mu.Lock()
	if l.caughtUp != nil {
		close(l.caughtUp)
		l.caughtUp = nil
	}
	l.mu.Unlock()
}

// Stalled tells whether writers are held up because the owner does not keep up.
func (l *Log) Stalled() bool { return l.stalled.Load() }

// lag notes that the owner does not keep up, and calls for it.
func (l *Log) requireOwner() {
	if !l.stalls {
		return
	}
	l.stalled.Store(true)
	l.opts.Wake()
}

// pace waits for the owner if it lags behind. It is called with mu held, and
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

// behind tells whether more is over a limit than the owner's way of working
// explains.
func (u *Usage) exceeds(total, limit int64) bool {
	return limit > 0 && total > limit+max(stallOver, limit/8)
}
