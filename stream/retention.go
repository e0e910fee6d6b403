package stream

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/shardlog/shardlog"
)

const (
	// reclaimEvery is the shortest time between two reclaims of space: compactions
	// need some time to have an effect.
	reclaimEvery = 200 * time.Millisecond
	// expiryGrain bounds how often ages are checked: records may outlive their
	// retention by this fraction of it, or by a second if that is less.
	expiryGrain = 100
)

// janitor applies retention and reclaims space. It sleeps until the next record
// expires or the log reports that there is work, so an idle database does
// nothing.
func (db *DB) janitor() {
	defer db.wg.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var lastReclaim time.Time
	dirty := true
	for {
		select {
		case <-db.quit:
			return
		case <-db.wake:
			dirty = true
		case <-timer.C:
		}
		next := db.retain(ctx)
		if dirty {
			if wait := reclaimEvery - time.Since(lastReclaim); wait > 0 && !lastReclaim.IsZero() && !db.log.Stalled() {
				next = min(next, wait)
			} else {
				dirty = db.reclaim()
				lastReclaim = time.Now()
				if dirty {
					next = min(next, reclaimEvery)
				}
			}
		}
		db.log.CaughtUp()
		timer.Reset(next)
	}
}

func (db *DB) reclaim() (more bool) {
	more, err := db.log.Reclaim()
	if err != nil {
		db.warn("reclaiming disk space failed", err)
		// A full disk can have space again; a store that failed stays failed.
		return errors.Is(err, shardlog.ErrNoSpace)
	}
	return more
}

// retain applies retention to all streams and returns how long nothing will
// expire.
func (db *DB) retain(ctx context.Context) time.Duration {
	next := time.Hour
	for _, st := range db.list() {
		wait, err := st.retain(ctx)
		if err != nil && !errors.Is(err, shardlog.ErrNotFound) {
			db.warn("retention of stream "+st.name+" failed", err)
			wait = time.Second
		}
		next = min(next, wait)
		select {
		case <-db.quit:
			return next
		default:
		}
	}
	return next
}

// retain removes what exceeds the stream's bounds, and closed shards without
// records; it returns how long nothing more will expire.
func (st *Stream) retain(ctx context.Context) (time.Duration, error) {
	meta := st.meta.Load()
	next, err := st.expireProducers(ctx)
	if err != nil {
		return 0, err
	}
	next = min(next, st.dedup.Expire())
	if age := meta.Retention; age != Forever {
		wait, err := st.expire(ctx, age)
		if err != nil {
			return 0, err
		}
		next = max(min(next, wait), grain(age))
	}
	if age := meta.closedAge(); age != Forever {
		wait, err := st.dropExpired(ctx, age)
		if err != nil {
			return 0, err
		}
		next = max(min(next, wait), grain(age))
	}
	if meta.RetentionBytes > 0 {
		if err := st.shrink(ctx, meta.RetentionBytes); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// expire trims by age.
func (st *Stream) expire(ctx context.Context, age time.Duration) (next time.Duration, err error) {
	now := time.Now()
	cutoff := now.Add(-age).UnixMilli()
	next = min(time.Hour, age) // records written from now on last that long
	for _, sh := range st.routes.Load().all {
		var upto uint64
		sh.s.ScanBlocks(func(end uint64, lastMs, _ int64) bool {
			lastMs = sh.recordsAhead.believed(lastMs, now)
			if lastMs >= cutoff {
				next = min(next, time.UnixMilli(lastMs+1).Add(age).Sub(now))
				return false
			}
			upto = end
			return true
		})
		if upto > 0 {
			if err := sh.s.Trim(ctx, upto); err != nil {
				return 0, err
			}
		}
	}
	return next, nil
}

// dropExpired removes closed shards that nothing can be read from any more. A
// parent goes before its children, because a reader at its end asks it for
// them: the parent's last record may expire after the children's time is over,
// as arrivals are milliseconds and do not follow a clock that steps back.
func (st *Stream) dropExpired(ctx context.Context, age time.Duration) (next time.Duration, err error) {
	now := time.Now()
	next = min(time.Hour, age)
	for _, sh := range st.routes.Load().all {
		if !sh.meta.Closed || !sh.s.Info().Empty || st.routes.Load().hasParent(sh) {
			continue
		}
		if left := time.UnixMilli(sh.closingAhead.believed(sh.meta.ClosedAt, now)).Add(age).Sub(now); left > 0 {
			next = min(next, left)
			continue
		}
		if err := st.forget(ctx, sh); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// grain is the shortest time between two searches for records that have reached
// the age.
func grain(age time.Duration) time.Duration {
	return min(max(age/expiryGrain, time.Millisecond), time.Second)
}

// closedAge is how long a closed shard is listed at least. Where records are
// removed by bytes alone their shards must not stay forever either: they are
// listed for as long as Kinesis would list them by default.
func (m *streamMeta) closedAge() time.Duration {
	if m.Retention == Forever && m.RetentionBytes > 0 {
		return DefaultRetention
	}
	return m.Retention
}

// forget removes a closed shard from the stream.
func (st *Stream) forget(ctx context.Context, gone *streamShard) error {
	if err := st.shape.Lock(ctx); err != nil {
		return err
	}
	if st.deleted.Load() {
		st.shape.Unlock()
		return shardlog.ErrNotFound
	}
	old := st.routes.Load()
	all := make([]*streamShard, 0, len(old.all))
	for _, sh := range old.all {
		if sh.s != gone.s {
			all = append(all, sh)
		}
	}
	st.routes.Store(newRoutes(all))
	st.shape.Unlock()
	return st.dropShard(ctx, gone)
}

// chunk is a stored run of records that is removed as a whole.
type chunk struct {
	sh           *streamShard
	end          uint64
	lastMs, size int64
}

// shrink trims the oldest chunks until the stream is within its bytes.
func (st *Stream) shrink(ctx context.Context, limit int64) error {
	excess := st.usage.Bytes.Load() - limit
	if excess <= 0 {
		return nil
	}
	var chunks []chunk
	for _, sh := range st.routes.Load().all {
		var sum int64
		sh.s.ScanBlocks(func(end uint64, lastMs, size int64) bool {
			chunks = append(chunks, chunk{sh, end, lastMs, size})
			sum += size
			return sum < excess
		})
	}
	// A stable sort keeps the order of each shard's chunks.
	sort.SliceStable(chunks, func(i, j int) bool { return chunks[i].lastMs < chunks[j].lastMs })
	upto := map[*streamShard]uint64{}
	for _, p := range chunks {
		if excess <= 0 {
			break
		}
		upto[p.sh] = p.end
		excess -= p.size
	}
	for sh, end := range upto {
		if err := sh.s.Trim(ctx, end); err != nil {
			return err
		}
	}
	return nil
}
