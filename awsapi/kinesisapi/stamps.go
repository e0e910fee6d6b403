package kinesisapi

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"github.com/shardlog/shardlog/internal/ctxsync"
	"github.com/shardlog/shardlog/stream"
)

// attrStamps is the attribute of the database that holds a stampSet.
const attrStamps = "kinesis.consumers"

// stampSet has the stamps of consumers that are gone. A stamp is what an ARN of
// a consumer ends with: the second of its creation, or a later one if that was
// the stamp of an earlier consumer, so that an ARN never names another consumer
// than the one that it was given out for. That holds for streams that are recreated
// within the second too, and after the clock was ahead. It is safe for
// concurrent use.
type stampSet struct {
	db *stream.DB

	// saving is held while the database changes, and locked before mu.
	saving ctxsync.Mutex

	mu sync.Mutex
	// recent has those that may be given out again by the time, by name of the
	// stream in the database and of the consumer. All others are up to floor.
	recent map[string]int64
	floor  int64
}

// storedStamps is a stampSet as it is stored.
type storedStamps struct {
	Recent map[string]int64 `json:"recent,omitempty"`
	Floor  int64            `json:"floor"`
}

// openStamps reads the stamps of a database.
func openStamps(ctx context.Context, db *stream.DB) (*stampSet, error) {
	text, err := db.Attribute(ctx, attrStamps)
	if err != nil {
		return nil, err
	}
	var v storedStamps
	if text != "" {
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			v = storedStamps{} // text that the endpoint has not written
		}
	}
	if v.Recent == nil {
		v.Recent = map[string]int64{}
	}
	return &stampSet{db: db, saving: ctxsync.NewMutex(), recent: v.Recent, floor: v.Floor}, nil
}

// next returns the stamp of a consumer that is registered now.
func (ss *stampSet) next(s *streamState, consumer string, now time.Time) int64 {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	stamp := max(now.Unix(), ss.floor+1)
	if last, ok := ss.recent[stampKey(s, consumer)]; ok {
		stamp = max(stamp, last+1)
	}
	return stamp
}

// retire takes the stamps of consumers that go, but stores nothing.
func (ss *stampSet) retire(s *streamState, gone ...*consumer) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, con := range gone {
		key := stampKey(s, con.Name)
		ss.recent[key] = max(ss.recent[key], con.stamp())
	}
}

// save stores what was retired. Stamps of seconds that are over, on the machine's
// clock, are forgotten one by one, so that there are few. Those of a clock that is
// ahead are kept: as the floor they would be in the ARNs of all consumers that
// come once it is right again.
func (ss *stampSet) save(ctx context.Context) error {
	if err := ss.saving.Lock(ctx); err != nil {
		return err
	}
	defer ss.saving.Unlock()
	text, err := ss.prune(time.Now())
	if err != nil {
		return err
	}
	return ss.db.SetAttribute(ctx, attrStamps, string(text))
}

// prune returns what is to be stored.
func (ss *stampSet) prune(now time.Time) ([]byte, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	maps.DeleteFunc(ss.recent, func(_ string, stamp int64) bool {
		over := stamp < now.Unix()
		if over {
			ss.floor = max(ss.floor, stamp)
		}
		return over
	})
	return json.Marshal(storedStamps{ss.recent, ss.floor})
}

// stampKey has a slash between two names that have none.
func stampKey(s *streamState, consumer string) string { return s.st.Name() + "/" + consumer }
