package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// view is the group's rows, the stream's shards and the group's workers at one
// moment.
type view struct {
	rows  map[string]checkpoint.Lease
	infos map[string]shardlog.ShardInfo
	order []string // the keys of infos, parents before children
	now   time.Time
	begun bool // see groupRow
}

func (v *view) listed(id string) bool { _, ok := v.infos[id]; return ok }

func (v *view) known(id string) bool { _, ok := v.rows[id]; return ok }

// maxPoll bounds the time between two looks at the workers' rows. It is how
// soon a worker that has left, or that asks for a shard, is noticed.
const maxPoll = 500 * time.Millisecond

// watchPause is the least time to collect changes that the store tells of.
const watchPause = 5 * time.Millisecond

// collect waits for more changes, because where there is one there are mostly
// others: the longer, the more a look at everything costs.
func (r *run) collect() {
	t := time.NewTimer(min(max(watchPause, 4*r.syncTook), maxPoll))
	defer t.Stop()
	select {
	case <-r.reading.Done():
	case <-r.wake:
	case <-t.C:
	}
}

// supervise joins the group, finds shards, takes this worker's part of them
// and starts their tasks, until the run is stopped.
func (r *run) supervise() {
	if !r.join() {
		return
	}
	failures := 0
	full := true
	for r.reading.Err() == nil {
		err := r.round(r.reading, full)
		full = false
		pause := r.pause()
		switch {
		case err == nil:
			failures = 0
		case r.reading.Err() != nil:
			return
		case permanent(err):
			r.fail("", err)
			return
		default:
			failures++
			full = true
			pause = r.o.Retry.delay(failures, err)
			r.emit(Event{Kind: EventDiscoverFailed, Attempt: failures, Wait: pause, Err: err})
		}
		t := time.NewTimer(pause)
		select {
		case <-r.reading.Done():
		case <-r.wake:
			full = true
		case <-r.watch:
			full = true
			r.collect()
		case <-t.C:
		}
		t.Stop()
	}
}

// join registers the worker, however long the store takes to accept that. It
// returns false when the run was stopped before.
func (r *run) join() bool {
	for failures := 1; r.reading.Err() == nil; failures++ {
		err := r.heart.register(r.reading)
		if err == nil {
			r.joined = true
			go r.heart.beats(r.drained)
			return true
		}
		if r.reading.Err() != nil {
			return false
		}
		if permanent(err) {
			r.fail("", err)
			return false
		}
		pause := r.o.Retry.delay(failures, err)
		r.emit(Event{Kind: EventDiscoverFailed, Attempt: failures, Wait: pause, Err: err})
		sleep(r.reading, pause)
	}
	return false
}

// pause is how long until the next look at the workers.
func (r *run) pause() time.Duration {
	now := time.Now()
	d := min(maxPoll, r.o.LeaseTTL/20, r.peers.nextExpiry(now), r.nextSync.Sub(now))
	return max(d, time.Millisecond)
}

// round looks at the workers, and at everything else when that shows
// something new or it is time.
func (r *run) round(ctx context.Context, full bool) error {
	if !r.heart.fresh() {
		return nil // others may take this worker for dead; a beat wakes us
	}
	if !full && time.Now().Before(r.nextSync) {
		changed, err := r.lookAtWorkers(ctx)
		if err != nil || !changed {
			return err
		}
	}
	for {
		again, err := r.syncOnce(ctx)
		if err != nil {
			return err
		}
		if !again {
			return nil
		}
	}
}

// lookAtWorkers reads the workers' rows.
func (r *run) lookAtWorkers(ctx context.Context) (changed bool, err error) {
	rows, err := r.o.Store.List(ctx, r.o.Group, r.o.Stream+workersSuffix)
	if err != nil {
		return false, fmt.Errorf("list workers: %w", err)
	}
	return r.peers.observe(rows, time.Now()), nil
}

// syncOnce brings rows and tasks up to date with the shards of the stream and
// the workers of the group. It may be repeated after any error, and returns
// again when it met a change by another worker.
func (r *run) syncOnce(ctx context.Context) (again bool, err error) {
	defer func(began time.Time) { r.syncTook = time.Since(began) }(time.Now())
	v, err := r.look(ctx)
	if err != nil {
		return false, err
	}
	if err := r.verify(v); err != nil {
		return false, err
	}
	if err := r.begin(ctx, v); err != nil {
		return false, err
	}
	if err := r.createRows(ctx, v); err != nil {
		return false, err
	}
	if err := r.finishBegin(ctx, v); err != nil {
		return false, err
	}
	if again, err := r.share(ctx, v); again || err != nil {
		return again, err
	}
	if err := r.cleanUp(ctx, v); err != nil {
		return false, err
	}
	r.nextSync = time.Now().Add(r.o.DiscoverEvery)
	if d, ok := r.deadline(); ok && time.Now().Add(d).Before(r.nextSync) {
		r.nextSync = time.Now().Add(d)
	}
	return false, nil
}

// look reads the rows of the shards first. A shard that has a row but is not in
// the list that was read afterwards does not exist any more; and an owner that
// has no row in the list of workers, which is read last, is dead, because a
// worker has its own row before it takes a shard.
func (r *run) look(ctx context.Context) (*view, error) {
	rows, err := r.o.Store.List(ctx, r.o.Group, r.o.Stream)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	infos, err := r.src.Shards(ctx)
	if err != nil {
		return nil, fmt.Errorf("list shards: %w", err)
	}
	if _, err := r.lookAtWorkers(ctx); err != nil {
		return nil, err
	}
	v := &view{rows: map[string]checkpoint.Lease{}, infos: map[string]shardlog.ShardInfo{}, now: time.Now()}
	for _, l := range rows {
		v.rows[l.Shard] = l
	}
	for _, s := range infos {
		v.infos[s.ID] = s
		v.order = append(v.order, s.ID)
	}
	return v, nil
}

// verify finds shards that another worker has taken, rows that belong to an
// earlier stream of the same name, and shards that are gone.
func (r *run) verify(v *view) error {
	var gone []Event
	r.mu.Lock()
	for id, s := range r.shards {
		row, known := v.rows[id]
		switch {
		case s.task == nil:
		case !known:
			s.task.lose(fmt.Errorf("%w: its row was deleted", ErrLeaseLost))
		case row.Epoch > s.task.epoch:
			s.task.lose(lostTo(row))
		}
	}
	for id, row := range v.rows {
		s := r.shard(id)
		s.epoch = max(s.epoch, row.Epoch)
		if v.listed(id) {
			s.gone = s.expired
			continue
		}
		if row.Ended || s.gone || s.task != nil || row.Owner != "" && row.Owner != r.o.WorkerID && r.peers.live(row.Owner, v.now) {
			continue
		}
		s.gone = true
		s.stats.Blocked, s.stats.Checkpoint = goneFromStream, row.Checkpoint
		gone = append(gone, Event{Kind: EventShardGone, ShardID: id, Epoch: row.Epoch, Position: row.Checkpoint})
	}
	r.mu.Unlock()
	for _, e := range gone {
		r.emit(e)
	}
	for id, row := range v.rows {
		at, first := row.Checkpoint.Sequence(), v.infos[id].First
		// Numbers of which the creation is not known say nothing of it.
		atCreated, ok1 := at.Created()
		created, ok2 := first.Created()
		if ok1 && ok2 && !atCreated.Equal(created) {
			return &shardlog.Error{Op: "consume", Stream: r.o.Stream, Shard: id, Err: fmt.Errorf(
				"%w: the checkpoint is of a shard made at %v, but this one was made at %v: the stream was deleted and made again",
				shardlog.ErrConflict, atCreated.UTC(), created.UTC())}
		}
	}
	return nil
}

const goneFromStream = "gone from the stream"

func lostTo(row checkpoint.Lease) error {
	owner := row.Owner
	if owner == "" {
		owner = "another worker"
	}
	return fmt.Errorf("%w: held by %s since epoch %d", ErrLeaseLost, owner, row.Epoch)
}

// cleanUp removes rows that nobody needs any more: those of shards that have
// expired and whose children have rows, and those of workers that died long
// ago and own nothing. A quiet child does not keep its parent's row.
func (r *run) cleanUp(ctx context.Context, v *view) error {
	for id, row := range v.rows {
		if v.listed(id) {
			delete(r.unlisted, id)
			continue
		}
		since, ok := r.unlisted[id]
		if !ok {
			r.unlisted[id] = v.now
			continue
		}
		// Not at once: a list that lacked a shard by mistake must not cost its
		// progress.
		if v.now.Sub(since) < 2*r.o.DiscoverEvery || !row.Ended && row.Owner != "" || !r.childrenHaveRows(v, id, row) {
			continue
		}
		if err := r.remove(ctx, row); err != nil {
			return err
		}
		delete(r.unlisted, id)
	}
	owns := map[string]bool{}
	for _, row := range v.rows {
		owns[row.Owner] = true
	}
	for id, p := range r.peers.all {
		if !owns[id] && id != r.o.WorkerID && v.now.Sub(p.seen) > 2*r.o.LeaseTTL {
			if err := r.remove(ctx, p.row); err != nil {
				return err
			}
		}
	}
	return nil
}

// childrenHaveRows tells whether every shard that continues id and is still
// there has a row, so that its start no longer depends on id's.
func (r *run) childrenHaveRows(v *view, id string, row checkpoint.Lease) bool {
	for _, c := range row.Children {
		if v.listed(c) && !v.known(c) {
			return false
		}
	}
	for _, info := range v.infos {
		for _, p := range info.Parents {
			if p == id && !v.known(info.ID) {
				return false
			}
		}
	}
	return true
}

func (r *run) remove(ctx context.Context, row checkpoint.Lease) error {
	err := r.o.Store.Delete(ctx, row)
	if errors.Is(err, shardlog.ErrConflict) || errors.Is(err, shardlog.ErrNotFound) {
		return nil // somebody else was faster, or it is not dead after all
	}
	if err != nil {
		return fmt.Errorf("remove the row %s: %w", row.Shard, err)
	}
	return nil
}
