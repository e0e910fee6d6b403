package kinesisapi

import "time"

// States of streams and consumers.
const (
	statusActive   = "ACTIVE"
	statusCreating = "CREATING"
	statusUpdating = "UPDATING"
	statusDeleting = "DELETING"
)

// transition is a state that ends at some time. Nobody has to end it: what the
// state is follows from the time.
type transition struct {
	status string
	until  time.Time
}

// statusAt returns the state at a time. Nil is ACTIVE. DELETING lasts until
// what is deleted is gone, however late that is.
func (t *transition) statusAt(now time.Time) string {
	if t != nil && (t.status == statusDeleting || now.Before(t.until)) {
		return t.status
	}
	return statusActive
}
