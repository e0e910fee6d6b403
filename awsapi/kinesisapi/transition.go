package kinesisapi

import (
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog/internal/awswire"
)

// States of streams and consumers.
const (
	statusActive   = "ACTIVE"
	statusCreating = "CREATING"
	statusUpdating = "UPDATING"
	statusDeleting = "DELETING"
)

// transition is a state that lasts for some time. Nobody has to end it: what the
// state is follows from the time.
type transition struct {
	status string
	began  awswire.Moment
	lasts  time.Duration
	shown  uint32 // lists have shards with lower indexes only
	// ended is set once somebody has seen that the time is over. A clock that is
	// moved back does not begin it again.
	ended atomic.Bool
}

// over reports whether the time of a transition is over.
func (t *transition) over(clock *awswire.Clock) bool {
	if t.ended.Load() {
		return true
	}
	if clock.Since(t.began) < t.lasts {
		return false
	}
	t.ended.Store(true)
	return true
}

// hides reports whether a shard is one of those that lists do not have.
func (t *transition) hides(id string) bool {
	index, _ := shardIndex(id)
	return index >= t.shown
}

// left returns how much of the time of a transition is left.
func (t *transition) left(clock *awswire.Clock) time.Duration {
	if t == nil || t.over(clock) {
		return 0
	}
	return t.lasts - clock.Since(t.began)
}

// statusAt returns the present state. Nil is ACTIVE. DELETING lasts until what is
// deleted is gone, however late that is.
func (t *transition) statusAt(clock *awswire.Clock) string {
	if t != nil && (t.status == statusDeleting || !t.over(clock)) {
		return t.status
	}
	return statusActive
}
