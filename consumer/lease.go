package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// lookEvery is after how many shards that were taken a worker looks at the
// others again: of workers that start together, the first must not take all.
const lookEvery = 32

// since notes since when something about a shard holds, in one epoch of it.
type since struct {
	epoch uint64
	at    time.Time
}

// share does this worker's part of the plan: it gives up what others ask for,
// takes what is free, and asks for what others have too much of.
func (r *run) share(ctx context.Context, v *view) (again bool, err error) {
	if err := r.giveWay(ctx, v); err != nil {
		return false, err
	}
	ready, waiting := r.ready(v)
	members := r.peers.members(r.heart.info(), v.now)
	a := plan(members, ready)
	r.describe(v, waiting, ready, a, len(members))

	var take []string
	for _, h := range ready {
		if h.owner == r.o.WorkerID || a.take[h.shard] == r.o.WorkerID || r.overdue(v, h) {
			if !r.working(h.shard) {
				take = append(take, h.shard)
			}
		}
	}
	slices.SortFunc(take, strings.Compare)
	if again, err := r.takeAll(ctx, v, take); again || err != nil {
		return again, err
	}
	asked := false
	for shard, to := range a.move {
		if to != r.o.WorkerID {
			continue
		}
		row, ok, err := r.change(ctx, v.rows[shard], func(l *checkpoint.Lease) { l.Next = r.o.WorkerID })
		if err != nil {
			return false, fmt.Errorf("ask for %s: %w", shard, err)
		}
		if !ok {
			again = true
			continue
		}
		asked = true
		r.asked[shard] = since{row.Epoch, time.Now()}
		r.emit(Event{Kind: EventLeaseAsked, ShardID: shard, Epoch: row.Epoch, Position: row.Checkpoint})
	}
	if asked {
		r.heart.announce()
	}
	return again, nil
}

// ready returns the shards that can be worked on, as a plan needs them, and the
// others that cannot yet, with the parent that they wait for.
func (r *run) ready(v *view) (ready []holding, waiting map[string]string) {
	waiting = map[string]string{}
	free, asked := map[string]since{}, map[string]since{}
	alive := func(id string) bool { return id != "" && r.peers.live(id, v.now) }
	for _, id := range v.order {
		row, ok := v.rows[id]
		if b := r.blocker(v, v.infos[id]); b != "" {
			waiting[id] = b
			continue
		}
		if !ok || row.Ended || r.isGone(id) {
			continue
		}
		h := holding{shard: id}
		if alive(row.Owner) {
			h.owner = row.Owner
		}
		if alive(row.Next) && !r.peers.leaving(row.Next) {
			h.next = row.Next
		}
		if h.next == h.owner {
			h.next = ""
		}
		ready = append(ready, h)
		if h.owner == "" {
			free[id] = r.free[id].orNow(row.Epoch, v.now)
		} else if h.next == r.o.WorkerID {
			asked[id] = r.asked[id].orNow(row.Epoch, v.now)
		}
	}
	r.free, r.asked = free, asked
	return ready, waiting
}

// orNow returns s if it is about this epoch, else a new one.
func (s since) orNow(epoch uint64, now time.Time) since {
	if s.at.IsZero() || s.epoch != epoch {
		return since{epoch, now}
	}
	return s
}

// leaving tells whether a worker said that it is shutting down.
func (p *peers) leaving(id string) bool {
	o := p.all[id]
	return id != p.self && o != nil && o.info.Leaving
}

// overdue tells whether a shard has to be taken although the plan does not say
// so: its owner did not hand it over in time, or the worker that should have
// taken it did not.
func (r *run) overdue(v *view, h holding) bool {
	if h.owner != "" {
		f, ok := r.asked[h.shard]
		return ok && h.next == r.o.WorkerID && v.now.Sub(f.at) >= r.o.HandOff
	}
	f, ok := r.free[h.shard]
	return ok && v.now.Sub(f.at) >= r.o.LeaseTTL && (r.o.MaxLeases == 0 || r.held() < r.o.MaxLeases)
}

// deadline is how long until overdue may answer differently.
func (r *run) deadline() (least time.Duration, ok bool) {
	note := func(d time.Duration) {
		if d = max(d, maxPoll/10); !ok || d < least {
			least, ok = d, true
		}
	}
	for _, f := range r.asked {
		note(r.o.HandOff - time.Since(f.at))
	}
	for _, f := range r.free {
		if left := r.o.LeaseTTL - time.Since(f.at); left > 0 {
			note(left)
		}
	}
	return least, ok
}

// giveWay answers those who ask for this worker's shards: a task is asked to
// finish, and a request of a worker that died is removed.
func (r *run) giveWay(ctx context.Context, v *view) error {
	for id, row := range v.rows {
		if row.Owner != r.o.WorkerID || row.Next == "" || row.Next == r.o.WorkerID || row.Ended {
			continue
		}
		wanted := r.peers.live(row.Next, v.now) && !r.peers.leaving(row.Next)
		if wanted && r.yield(id, row.Epoch) {
			continue
		}
		next, ok, err := r.change(ctx, row, func(l *checkpoint.Lease) {
			if wanted {
				l.Owner = "" // from an earlier life of this worker
			} else {
				l.Next = ""
			}
		})
		if err != nil {
			return fmt.Errorf("answer about %s: %w", id, err)
		}
		if !ok {
			continue // seen again soon
		}
		v.rows[id] = next
		if wanted {
			r.heart.announce()
		}
	}
	return nil
}

// takeAll takes shards, some at a time.
func (r *run) takeAll(ctx context.Context, v *view, ids []string) (again bool, err error) {
	for len(ids) > 0 && r.heart.fresh() && r.reading.Err() == nil {
		n := min(len(ids), lookEvery)
		if r.o.MaxLeases > 0 {
			if n = min(n, r.o.MaxLeases-r.held()); n <= 0 {
				return again, nil
			}
		}
		var beaten atomic.Bool
		err := r.several(n, func(i int) error {
			ok, err := r.take(ctx, v.infos[ids[i]], v.rows[ids[i]])
			if !ok {
				beaten.Store(true) // another worker was faster; go on with the others
			}
			return err
		})
		again = again || beaten.Load()
		if err != nil {
			return again, err
		}
		if ids = ids[n:]; len(ids) > 0 {
			if changed, err := r.lookAtWorkers(ctx); changed || err != nil {
				return true, err
			}
		}
	}
	return again, nil
}

func (r *run) take(ctx context.Context, info shardlog.ShardInfo, row checkpoint.Lease) (ok bool, err error) {
	next, ok, err := r.change(ctx, row, func(l *checkpoint.Lease) {
		l.Owner, l.Next = r.o.WorkerID, ""
		l.Epoch++
		l.Switches++
	})
	if err != nil {
		// If it was written after all, the next attempt takes the row once
		// more: no other way is safe when two workers have one name.
		return true, fmt.Errorf("take %s: %w", info.ID, err)
	}
	if ok {
		r.startTask(info, next)
	}
	return ok, nil
}

// change writes a row that this worker may not hold. The owner may checkpoint
// it meanwhile, often; that is no reason not to write. Ok is false when the row
// has another owner or epoch, or asks for another hand-off, than it had in v.
func (r *run) change(ctx context.Context, row checkpoint.Lease, f func(*checkpoint.Lease)) (_ checkpoint.Lease, ok bool, err error) {
	for range 20 {
		next := row.Clone()
		f(&next)
		got, err := r.o.Store.Update(ctx, next)
		if err == nil {
			return got, true, nil
		}
		if errors.Is(err, shardlog.ErrNotFound) {
			return row, false, nil
		}
		if !errors.Is(err, shardlog.ErrConflict) {
			return row, false, err
		}
		got, err = r.o.Store.Get(ctx, row.Key)
		if errors.Is(err, shardlog.ErrNotFound) {
			return row, false, nil
		}
		if err != nil {
			return row, false, err
		}
		if got.Owner != row.Owner || got.Epoch != row.Epoch || got.Next != row.Next || got.Ended != row.Ended {
			return row, false, nil
		}
		row = got
	}
	return row, false, fmt.Errorf("%w: the row is changed again and again", checkpoint.ErrUnavailable)
}

// startTask begins the work on a shard that was just taken.
func (r *run) startTask(info shardlog.ShardInfo, row checkpoint.Lease) {
	var t *task
	r.update(info.ID, func(s *shard) {
		t = newTask(r, info, row)
		s.task, s.epoch = t, row.Epoch
		s.stats.Epoch, s.stats.Owner, s.stats.Checkpoint, s.stats.Blocked = row.Epoch, row.Owner, row.Checkpoint, ""
		r.taken++
	})
	r.emit(Event{Kind: EventLeaseTaken, ShardID: info.ID, Epoch: row.Epoch, Position: row.Checkpoint})
	r.tasks.Go(t.run)
}

// describe updates what Stats tells about shards that this worker does not
// have.
func (r *run) describe(v *view, waiting map[string]string, ready []holding, a assignment, workers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.workers, r.total, r.needed = workers, len(ready), 0
	for _, h := range ready {
		if h.owner == "" {
			r.needed++
		}
	}
	for _, id := range v.order {
		row, s := v.rows[id], r.shard(id)
		if s.task != nil || s.gone || s.parked {
			continue
		}
		s.stats.Ended = s.stats.Ended || row.Ended
		s.stats.Checkpoint, s.stats.Owner = row.Checkpoint, row.Owner
		switch {
		case waiting[id] != "":
			s.stats.block("parent " + waiting[id])
		case row.Owner == "" && !row.Ended && a.take[id] == "":
			s.stats.block("no worker has room for it")
		default:
			s.stats.block("")
		}
	}
}

// working tells whether this worker has a shard, or has given it up for good.
func (r *run) working(id string) (yes bool) {
	r.update(id, func(s *shard) { yes = s.parked || s.task.has() })
	return yes
}

// has tells whether a task is there and has its shard. One that has lost it may
// still wait for its handler.
func (t *task) has() bool {
	return t != nil && !errors.Is(context.Cause(t.storing), ErrLeaseLost)
}

func (r *run) isGone(id string) (yes bool) {
	r.update(id, func(s *shard) { yes = s.gone })
	return yes
}

// held is how many shards this worker has.
func (r *run) held() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.shards {
		if s.task.has() {
			n++
		}
	}
	return n
}

// yield asks the task of a shard to finish and give it back. It returns false
// when there is none.
func (r *run) yield(id string, epoch uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shards[id]
	if s == nil || !s.task.has() {
		return false
	}
	if s.task.epoch == epoch {
		s.task.stopReading(errHandOff)
	}
	return true
}
