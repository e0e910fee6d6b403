package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/once"
)

// Bounds of dedup IDs.
const (
	// MinDedupWindow is the unit of arrivals.
	MinDedupWindow = time.Millisecond
	// MaxDedupWindow bounds what is read when a database is opened.
	MaxDedupWindow = 24 * time.Hour
	// MaxDedupIDs is how many IDs a stream remembers: 4,194,304. Each takes
	// about 100 bytes of memory, so that is about 400 MiB a stream at most.
	// Records with further IDs within the window get
	// shardlog.ErrThroughputExceeded until the oldest IDs have expired.
	MaxDedupIDs = once.MaxIDs
)

// SetDedupWindow changes the time in which a record with the DedupID of another
// is a duplicate, as in Config; 0 turns it off. A longer window does not bring
// back IDs that had expired in the old one, until the database is opened again.
func (st *Stream) SetDedupWindow(ctx context.Context, window time.Duration) error {
	err := st.update(ctx, "set dedup window", func(m *streamMeta) error {
		m.DedupWindow = window
		return checkDedupWindow(window)
	})
	if err == nil {
		st.db.wakeJanitor()
	}
	return err
}

func checkDedupWindow(d time.Duration) error {
	if d != 0 && (d < MinDedupWindow || d > MaxDedupWindow) {
		return &shardlog.InvalidError{Field: "DedupWindow", Value: d, Limit: fmt.Sprintf("0 for none, or %v to %v", MinDedupWindow, MaxDedupWindow)}
	}
	return nil
}
