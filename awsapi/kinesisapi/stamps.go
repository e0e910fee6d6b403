package kinesisapi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/shardlog/shardlog/internal/ctxsync"
	"github.com/shardlog/shardlog/stream"
)

// attrStamps is the attribute of the database that holds a stampSet.
const attrStamps = "kinesis.consumers"

// stampSet has the stamps of consumers. A stamp is what an ARN of a consumer ends
// with: the second of its creation, or a later one if that was the stamp of an
// earlier consumer, so that an ARN never names another consumer than the one that
// it was given out for. That holds for streams that are recreated within the second
// too, and after the clock was ahead. Stamps are stored before consumers have
// them: a stream can be deleted, with its consumers, without the endpoint. It is
// safe for concurrent use.
type stampSet struct {
	db *stream.DB

	// taking is held while a stamp is chosen and the database changes.
	taking ctxsync.Mutex
	stored storedStamps
}

// storedStamps is what is stored of a stampSet.
type storedStamps struct {
	// Recent has those that may be given out again by the time, by name of the
	// stream in the database and of the consumer. All others are up to Floor.
	Recent map[string]int64 `json:"recent,omitempty"`
	Floor  int64            `json:"floor"`
}

// maxRecent bounds storedStamps, which with names of 128 characters have to fit
// into an attribute.
const maxRecent = 200

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
	return &stampSet{db: db, taking: ctxsync.NewMutex(), stored: v}, nil
}

// take returns the stamp of a consumer that is registered now, and stores that it
// is taken.
func (ss *stampSet) take(ctx context.Context, s *streamState, consumer string, now time.Time) (int64, error) {
	if err := ss.taking.Lock(ctx); err != nil {
		return 0, err
	}
	defer ss.taking.Unlock()
	key := stampKey(s, consumer)
	// One that has none yet has 0.
	stamp := max(now.Unix(), ss.stored.Floor+1, ss.stored.Recent[key]+1)
	next := ss.stored.with(key, stamp, min(now.Unix(), time.Now().Unix()))
	text, err := json.Marshal(&next)
	if err == nil {
		err = ss.db.SetAttribute(ctx, attrStamps, string(text))
	}
	if err != nil {
		return 0, err
	}
	ss.stored = next
	return stamp, nil
}

// with returns the stamps with one more. Those of seconds that are over, on the
// clock of the endpoint and on that of the machine, are forgotten one by one, so
// that there are few. Those of a clock that is ahead are kept: as the floor they
// would be in the ARNs of all consumers that come once it is right again.
func (v storedStamps) with(key string, stamp, now int64) storedStamps {
	v.Recent = maps.Clone(v.Recent)
	if v.Recent == nil {
		v.Recent = map[string]int64{}
	}
	v.Recent[key] = stamp
	v.forget(now)
	if len(v.Recent) > maxRecent {
		v.forget(slices.Min(slices.Collect(maps.Values(v.Recent))) + 1)
	}
	return v
}

// forget forgets the stamps before a second. They are up to the floor then.
func (v *storedStamps) forget(before int64) {
	maps.DeleteFunc(v.Recent, func(_ string, stamp int64) bool {
		if stamp >= before {
			return false
		}
		v.Floor = max(v.Floor, stamp)
		return true
	})
}

// stampKey has a slash between two names that have none.
func stampKey(s *streamState, consumer string) string { return s.st.Name() + "/" + consumer }
