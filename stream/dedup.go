package stream

import (
	"context"
	"errors"
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
	// MaxDedupIDs is how many IDs a stream remembers: 4,194,304. Each takes about
	// 100 bytes of memory, so that is about 400 MiB a stream at most. Records with
	// more within the window get shardlog.ErrThroughputExceeded until the oldest
	// are over.
	MaxDedupIDs = once.MaxIDs
)

// loadIDs fills the index of dedup IDs from the records. IDs of damaged records
// are not known; other errors end it.
func (st *Stream) loadIDs() error {
	return st.dedup.Load(func(from int64, add func([]byte, shardlog.SequenceNumber, int64)) error {
		for _, sh := range st.routes.Load().all {
			err := sh.s.ScanDedupIDs(from, add)
			if errors.Is(err, shardlog.ErrCorrupt) {
				st.db.warn("dedup IDs of damaged records in stream "+st.name+" are not known", err)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

// SetDedupWindow changes the time in which a record with the DedupID of another
// is a duplicate, as in Config; 0 turns it off. A longer window does not bring
// back IDs that were over in the old one, until the database is opened again.
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

// idRule says whether a call takes dedup IDs.
type idRule uint8

const (
	idsOff       idRule = iota // the stream has no window
	idsOn                      // they are taken
	idsCondition               // the call is PutIf
)

func (m *streamMeta) idRule() idRule {
	if m.DedupWindow > 0 {
		return idsOn
	}
	return idsOff
}

// check returns why a call does not take an ID that is not empty and valid.
func (rule idRule) check(id string) *shardlog.InvalidError {
	switch rule {
	case idsOff:
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: "empty in a stream without Config.DedupWindow"}
	case idsCondition:
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: "empty in PutIf, whose condition keeps copies out"}
	}
	return nil
}

// putWithIDs is PutRecords for records some of which have dedup IDs.
func (st *Stream) putWithIDs(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	return st.request(ctx, &shardlog.PutRequest{Records: records})
}

func hasIDs(records []shardlog.Record) bool {
	for i := range records {
		if records[i].DedupID != "" {
			return true
		}
	}
	return false
}
