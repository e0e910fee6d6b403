package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// snapshot is the group's rows, the stream's shards and the group's workers at one
// moment.
type snapshot struct {
	rows  map[string]checkpoint.Lease
	infos map[string]shardlog.ShardInfo
	order []string // the keys of infos, parents before children
	now   time.Time
	begun bool // see groupRow
	// start is where shards without a row begin, if it does not depend on others.
	start shardlog.Position
}

func (v *snapshot) listed(id string) bool { _, ok := v.infos[id]; return ok }

func (v *snapshot) known(id string) bool { _, ok := v.rows[id]; return ok }

// maxPoll bounds the time between two looks at the workers' rows. It is how
// soon a worker that has left, or that asks for a shard, is noticed.
const maxPoll = 500 * time.Millisecond

// watchPause is the least time to collect changes that the store notifies of.
const watchPause = 5 * time.Millisecond

// collect waits for more changes, because where there is one there are mostly
// others: the longer, the more a look at everything costs.
func (g *Group) collect(ctx context.Context) {
	t := time.NewTimer(min(max(watchPause, 4*g.syncTook), maxPoll))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-g.wake:
	case <-t.C:
	}
}

// supervise makes one round after another until ctx ends.
func (g *Group) supervise(ctx context.Context) {
	failures := 0
	full := true
	for ctx.Err() == nil {
		err := g.round(ctx, full)
		full = false
		pause := g.pause()
		switch {
		case err == nil:
			failures = 0
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrLost):
			g.overtaken(err)
			return
		case Permanent(err):
			g.c.Owner.Failed(err)
			return
		default:
			failures++
			full = true
			pause = g.c.Backoff.Pause(failures, err)
			g.c.Owner.Notify(Event{Kind: DiscoverFailed, Attempt: failures, Wait: pause, Err: err})
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-g.wake:
			full = true
		case <-g.watch:
			full = true
			g.collect(ctx)
		case <-t.C:
		}
		t.Stop()
	}
}

// join registers the worker, however long the store takes to accept that. It
// returns false when the run was stopped before.
func (g *Group) join(ctx context.Context) bool {
	for failures := 1; ctx.Err() == nil; failures++ {
		err := g.enter(ctx)
		if err == nil {
			g.joined = true
			go g.heartbeat.loop(g.left)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if Permanent(err) {
			g.c.Owner.Failed(err)
			return false
		}
		pause := g.c.Backoff.Pause(failures, err)
		g.c.Owner.Notify(Event{Kind: DiscoverFailed, Attempt: failures, Wait: pause, Err: err})
		Sleep(ctx, pause)
	}
	return false
}

// enter writes the worker's row, if the group's rows are of this stream: the row
// may be that of another worker with the same ID, which would be ended.
func (g *Group) enter(ctx context.Context) error {
	if err := g.identify(ctx); err != nil {
		return err
	}
	rows, err := g.c.Store.List(ctx, g.c.Group, g.c.Stream)
	if err != nil {
		return fmt.Errorf("list checkpoints: %w", err)
	}
	if err := g.checkStream(rows); err != nil {
		return err
	}
	return g.heartbeat.register(ctx)
}

// pause is how long until the next look at the workers.
func (g *Group) pause() time.Duration {
	now := time.Now()
	d := min(maxPoll, g.c.TTL/20, g.peers.nextExpiry(now), g.nextSync.Sub(now))
	return max(d, time.Millisecond)
}

// round looks at the workers, and at everything else when that shows
// something new or it is time.
func (g *Group) round(ctx context.Context, full bool) error {
	if !g.heartbeat.valid() {
		return nil // others may take this worker for dead; a beat wakes us
	}
	if !full && time.Now().Before(g.nextSync) {
		changed, err := g.lookAtWorkers(ctx)
		if err != nil || !changed {
			return err
		}
	}
	for {
		again, err := g.syncOnce(ctx)
		if err != nil {
			return err
		}
		if !again {
			return nil
		}
	}
}

// lookAtWorkers reads the workers' rows. The error matches ErrLost when another
// life of this worker's ID has begun. Such a life registers before it takes a
// shard, so a worker that reads the shards' rows and then calls this does not
// take for its own what is the other life's.
func (g *Group) lookAtWorkers(ctx context.Context) (changed bool, err error) {
	rows, err := g.c.Store.List(ctx, g.c.Group, g.c.Stream+WorkersSuffix)
	if err != nil {
		return false, fmt.Errorf("list workers: %w", err)
	}
	changed = g.peers.observe(rows, time.Now())
	if own := g.peers.all[g.c.WorkerID]; own != nil && own.row.Owner != g.heartbeat.token {
		return changed, g.heartbeat.otherLife()
	}
	return changed, nil
}

// syncOnce brings rows and tasks up to date with the shards of the stream and
// the workers of the group. It may be repeated after any error, and returns
// again when it met a change by another worker.
func (g *Group) syncOnce(ctx context.Context) (again bool, err error) {
	defer func(began time.Time) { g.syncTook = time.Since(began) }(time.Now())
	v, err := g.look(ctx)
	if err != nil {
		return false, err
	}
	if err := g.checkRows(ctx, v); err != nil {
		return false, err
	}
	g.verify(v)
	if err := g.begin(ctx, v); err != nil {
		return false, err
	}
	if err := g.createRows(ctx, v); err != nil {
		return false, err
	}
	if err := g.finishBegin(ctx, v); err != nil {
		return false, err
	}
	if again, err := g.rebalance(ctx, v); again || err != nil {
		return again, err
	}
	if err := g.cleanUp(ctx, v); err != nil {
		return false, err
	}
	g.nextSync = time.Now().Add(g.c.DiscoverEvery)
	if d, ok := g.deadline(); ok && time.Now().Add(d).Before(g.nextSync) {
		g.nextSync = time.Now().Add(d)
	}
	return false, nil
}

// look reads the rows of the shards first. A shard that has a row but is not in
// the list that was read afterwards does not exist any more; and an owner that
// has no row in the list of workers, which is read last, is dead, because a
// worker has its own row before it takes a shard.
func (g *Group) look(ctx context.Context) (*snapshot, error) {
	rows, err := g.c.Store.List(ctx, g.c.Group, g.c.Stream)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	infos, err := g.c.Source.Shards(ctx)
	if err != nil {
		return nil, fmt.Errorf("list shards: %w", err)
	}
	// After the list: if the stream is still the one that it was when the
	// worker began, the list is of that one.
	if err := g.identify(ctx); err != nil {
		return nil, err
	}
	if _, err := g.lookAtWorkers(ctx); err != nil {
		return nil, err
	}
	v := &snapshot{rows: map[string]checkpoint.Lease{}, infos: map[string]shardlog.ShardInfo{}, now: time.Now()}
	for _, l := range rows {
		v.rows[l.Shard] = l
	}
	for _, s := range infos {
		v.infos[s.ID] = s
		v.order = append(v.order, s.ID)
	}
	return v, nil
}

// verify finds shards that another worker has taken, and shards that are gone.
func (g *Group) verify(v *snapshot) {
	var events []Event
	lost := map[*Lease]error{}
	g.mu.Lock()
	for id, s := range g.shards {
		row, known := v.rows[id]
		switch {
		case s.lease == nil:
		case !known:
			lost[s.lease] = fmt.Errorf("%w: its row was deleted", ErrLost)
		case row.Epoch > s.lease.epoch:
			lost[s.lease] = LostTo(row)
		}
	}
	for id, row := range v.rows {
		s := g.shard(id)
		s.epoch = max(s.epoch, row.Epoch)
		if v.listed(id) {
			s.gone = s.expired
			continue
		}
		if row.Ended || s.gone || s.lease != nil || row.Owner != "" && row.Owner != g.c.WorkerID && g.peers.live(row.Owner, v.now) {
			continue
		}
		s.gone = true
		events = append(events, Event{Kind: ShardGone, ShardID: id, Epoch: row.Epoch, Position: row.Checkpoint})
	}
	g.mu.Unlock()
	for l, cause := range lost {
		l.lose(cause)
	}
	for _, e := range events {
		g.c.Owner.Notify(e)
	}
}

// cleanUp removes rows that nobody needs any more: those of shards that have
// expired and whose children have rows, and those of workers that died long
// ago and own nothing. A quiet child does not keep its parent's row.
func (g *Group) cleanUp(ctx context.Context, v *snapshot) error {
	for id, row := range v.rows {
		if v.listed(id) {
			delete(g.unlisted, id)
			continue
		}
		since, ok := g.unlisted[id]
		if !ok {
			g.unlisted[id] = v.now
			continue
		}
		// Not immediately: a list that lacked a shard by mistake must not cost its
		// progress.
		if v.now.Sub(since) < 2*g.c.DiscoverEvery || !row.Ended && row.Owner != "" || !g.childrenHaveRows(v, id, row) {
			continue
		}
		if err := g.remove(ctx, row); err != nil {
			return err
		}
		delete(g.unlisted, id)
	}
	owns := map[string]bool{}
	for _, row := range v.rows {
		owns[row.Owner] = true
	}
	for id, p := range g.peers.all {
		if !owns[id] && id != g.c.WorkerID && v.now.Sub(p.seen) > 2*g.peers.ttlOf(p) {
			if err := g.remove(ctx, p.row); err != nil {
				return err
			}
		}
	}
	return nil
}

// childrenHaveRows reports whether every shard that continues id and is still
// there has a row, so that its start no longer depends on id's.
func (g *Group) childrenHaveRows(v *snapshot, id string, row checkpoint.Lease) bool {
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

func (g *Group) remove(ctx context.Context, row checkpoint.Lease) error {
	err := g.c.Store.Delete(ctx, row)
	if errors.Is(err, shardlog.ErrConflict) || errors.Is(err, shardlog.ErrNotFound) {
		return nil // somebody else was faster, or it is not dead after all
	}
	if err != nil {
		return fmt.Errorf("remove the row %s: %w", row.Shard, err)
	}
	return nil
}
