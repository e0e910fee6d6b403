package stream

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/shardlog/shardlog"
)

const (
	// reclaimEvery is how often space is reclaimed at most, and how long
	// compactions get to show an effect.
	reclaimEvery = 200 * time.Millisecond
	// expiryGrain bounds how often age is looked at: records may outlive
	// their retention by this part of it, or a second if that is less.
	expiryGrain = 100
)

func (db *DB) wakeJanitor() {
	select {
	case db.wake <- struct{}{}:
	default:
	}
}

// janitor applies retention and reclaims space. It sleeps until the next
// record expires or the log says that there is work, so an idle database does
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
		// A full disk or a short failure heals; a broken store does not.
		return errors.Is(err, shardlog.ErrNoSpace)
	}
	return more
}

func (db *DB) warn(msg string, err error) {
	if db.opts.Logger != nil && !errors.Is(err, shardlog.ErrClosed) {
		db.opts.Logger.Warn("shardlog: "+msg, "error", err)
	}
}

// retain trims all streams and returns how long nothing will expire.
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

// retain removes what is over the stream's bounds, and closed shards that are
// over; it returns how long nothing more will expire.
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
	next = min(time.Hour, age) // what is written from now on lasts that long
	for _, m := range st.routes.Load().all {
		var upto uint64
		m.s.ScanPieces(func(end uint64, lastMs, _ int64) bool {
			if lastMs >= cutoff {
				next = min(next, time.UnixMilli(lastMs+1).Add(age).Sub(now))
				return false
			}
			upto = end
			return true
		})
		if upto > 0 {
			if err := m.s.Trim(ctx, upto); err != nil {
				return 0, err
			}
		}
	}
	return next, nil
}

// dropExpired removes closed shards that have nothing to read any more. A
// parent goes before its children, because a reader at its end asks it for
// them: the parent's last record may expire after the children's time is over,
// as arrivals are milliseconds and do not follow a clock that steps back.
func (st *Stream) dropExpired(ctx context.Context, age time.Duration) (next time.Duration, err error) {
	now := time.Now()
	next = min(time.Hour, age)
	for _, m := range st.routes.Load().all {
		if !m.meta.Closed || !m.s.Info().Empty || st.routes.Load().hasParent(m) {
			continue
		}
		if left := time.UnixMilli(m.meta.ClosedAt).Add(age).Sub(now); left > 0 {
			next = min(next, left)
			continue
		}
		if err := st.forget(ctx, m); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// grain is the least time between two looks at what an age has expired.
func grain(age time.Duration) time.Duration {
	return min(max(age/expiryGrain, time.Millisecond), time.Second)
}

// closedAge is how long a closed shard is listed at least. Where records go by
// bytes alone their shards must not stay for ever either: they are listed for
// as long as Kinesis would list them by default.
func (m *streamMeta) closedAge() time.Duration {
	if m.Retention == Forever && m.RetentionBytes > 0 {
		return DefaultRetention
	}
	return m.Retention
}

// forget removes a closed shard from the stream.
func (st *Stream) forget(ctx context.Context, gone *member) error {
	if err := st.shape.Lock(ctx); err != nil {
		return err
	}
	if st.deleted.Load() {
		st.shape.Unlock()
		return shardlog.ErrNotFound
	}
	old := st.routes.Load()
	all := make([]*member, 0, len(old.all))
	for _, m := range old.all {
		if m.s != gone.s {
			all = append(all, m)
		}
	}
	st.routes.Store(newRoutes(all))
	st.shape.Unlock()
	return st.dropShard(ctx, gone)
}

// piece is a stored run of records that is removed as a whole.
type piece struct {
	m            *member
	end          uint64
	lastMs, size int64
}

// shrink trims the oldest pieces until the stream is within its bytes.
func (st *Stream) shrink(ctx context.Context, limit int64) error {
	excess := st.usage.Bytes.Load() - limit
	if excess <= 0 {
		return nil
	}
	var pieces []piece
	for _, m := range st.routes.Load().all {
		var sum int64
		m.s.ScanPieces(func(end uint64, lastMs, size int64) bool {
			pieces = append(pieces, piece{m, end, lastMs, size})
			sum += size
			return sum < excess
		})
	}
	// A stable sort keeps the order of each shard's pieces.
	sort.SliceStable(pieces, func(i, j int) bool { return pieces[i].lastMs < pieces[j].lastMs })
	upto := map[*member]uint64{}
	for _, p := range pieces {
		if excess <= 0 {
			break
		}
		upto[p.m] = p.end
		excess -= p.size
	}
	for m, end := range upto {
		if err := m.s.Trim(ctx, end); err != nil {
			return err
		}
	}
	return nil
}
