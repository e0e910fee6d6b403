package lease

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

// seenSince records since when something about a shard holds, in one epoch of it.
type seenSince struct {
	epoch uint64
	at    time.Time
}

// rebalance does this worker's part of the plan: it gives up what others ask for,
// takes what is free, and asks for what others have too much of.
func (g *Group) rebalance(ctx context.Context, v *snapshot) (again bool, err error) {
	if err := g.answerRequests(ctx, v); err != nil {
		return false, err
	}
	ready, waiting := g.ready(v)
	members := g.peers.members(g.heartbeat.info(), v.now)
	a := plan(members, ready)
	g.describe(v, waiting, ready, a, len(members))

	var take []string
	for _, h := range ready {
		if h.owner == g.c.WorkerID || a.take[h.shard] == g.c.WorkerID || g.overdue(v, h) {
			if !g.working(h.shard) {
				take = append(take, h.shard)
			}
		}
	}
	slices.SortFunc(take, strings.Compare)
	if again, err := g.acquire(ctx, v, take); again || err != nil {
		return again, err
	}
	asked := false
	for shard, to := range a.move {
		if to != g.c.WorkerID {
			continue
		}
		row, ok, err := g.change(ctx, v.rows[shard], func(l *checkpoint.Lease) { l.Next = g.c.WorkerID })
		if err != nil {
			return false, fmt.Errorf("ask for %s: %w", shard, err)
		}
		if !ok {
			again = true
			continue
		}
		asked = true
		g.asked[shard] = seenSince{row.Epoch, time.Now()}
		g.c.Owner.Notify(Event{Kind: Asked, ShardID: shard, Epoch: row.Epoch, Position: row.Checkpoint})
	}
	if asked {
		g.heartbeat.announce()
	}
	return again, nil
}

// ready returns the shards that can be worked on, as a plan needs them, and the
// others that cannot yet, with the parent that they wait for.
func (g *Group) ready(v *snapshot) (ready []holding, waiting map[string]string) {
	waiting = map[string]string{}
	free, asked := map[string]seenSince{}, map[string]seenSince{}
	alive := func(id string) bool { return id != "" && g.peers.live(id, v.now) }
	for _, id := range v.order {
		row, ok := v.rows[id]
		if b := g.blocker(v, v.infos[id]); b != "" {
			waiting[id] = b
			continue
		}
		if !ok || row.Ended || g.isGone(id) {
			continue
		}
		h := holding{shard: id}
		if alive(row.Owner) {
			h.owner = row.Owner
		}
		if alive(row.Next) && !g.peers.leaving(row.Next) {
			h.next = row.Next
		}
		if h.next == h.owner {
			h.next = ""
		}
		ready = append(ready, h)
		if h.owner == "" {
			free[id] = g.free[id].orNow(row.Epoch, v.now)
		} else if h.next == g.c.WorkerID {
			asked[id] = g.asked[id].orNow(row.Epoch, v.now)
		}
	}
	g.free, g.asked = free, asked
	return ready, waiting
}

// orNow returns s if it is about this epoch, else a new one.
func (s seenSince) orNow(epoch uint64, now time.Time) seenSince {
	if s.at.IsZero() || s.epoch != epoch {
		return seenSince{epoch, now}
	}
	return s
}

// overdue reports whether a shard has to be taken although the plan does not give
// it: its owner did not hand it over in time, or the worker that should have
// taken it did not.
func (g *Group) overdue(v *snapshot, h holding) bool {
	if h.owner != "" {
		f, ok := g.asked[h.shard]
		return ok && h.next == g.c.WorkerID && v.now.Sub(f.at) >= g.c.HandOff
	}
	f, ok := g.free[h.shard]
	return ok && v.now.Sub(f.at) >= g.c.TTL && (g.c.MaxLeases == 0 || g.held() < g.c.MaxLeases)
}

// deadline is how long until overdue may answer differently.
func (g *Group) deadline() (least time.Duration, ok bool) {
	note := func(d time.Duration) {
		if d = max(d, maxPoll/10); !ok || d < least {
			least, ok = d, true
		}
	}
	for _, f := range g.asked {
		note(g.c.HandOff - time.Since(f.at))
	}
	for _, f := range g.free {
		if left := g.c.TTL - time.Since(f.at); left > 0 {
			note(left)
		}
	}
	return least, ok
}

// answerRequests answers those who ask for this worker's shards: a task is asked to
// finish, and a request of a worker that died is removed.
func (g *Group) answerRequests(ctx context.Context, v *snapshot) error {
	for id, row := range v.rows {
		if row.Owner != g.c.WorkerID || row.Next == "" || row.Next == g.c.WorkerID || row.Ended {
			continue
		}
		wanted := g.peers.live(row.Next, v.now) && !g.peers.leaving(row.Next)
		if wanted && g.revoke(id, row.Epoch) {
			continue
		}
		next, ok, err := g.change(ctx, row, func(l *checkpoint.Lease) {
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
			g.heartbeat.announce()
		}
	}
	return nil
}

// acquire takes shards, some at a time.
func (g *Group) acquire(ctx context.Context, v *snapshot, ids []string) (again bool, err error) {
	for len(ids) > 0 && g.heartbeat.valid() && ctx.Err() == nil {
		n := min(len(ids), lookEvery)
		if g.c.MaxLeases > 0 {
			if n = min(n, g.c.MaxLeases-g.held()); n <= 0 {
				return again, nil
			}
		}
		var beaten atomic.Bool
		err := g.several(n, func(i int) error {
			ok, err := g.acquireOne(ctx, v.infos[ids[i]], v.rows[ids[i]])
			if !ok {
				beaten.Store(true) // another worker was faster; continue with the others
			}
			return err
		})
		again = again || beaten.Load()
		if err != nil {
			return again, err
		}
		if ids = ids[n:]; len(ids) > 0 {
			if changed, err := g.lookAtWorkers(ctx); changed || err != nil {
				return true, err
			}
		}
	}
	return again, nil
}

func (g *Group) acquireOne(ctx context.Context, info shardlog.ShardInfo, row checkpoint.Lease) (ok bool, err error) {
	next, ok, err := g.change(ctx, row, func(l *checkpoint.Lease) {
		l.StreamID = g.streamIDOr(l.StreamID)
		l.Owner, l.Next = g.c.WorkerID, ""
		l.Epoch++
		l.Switches++
	})
	if err != nil {
		// If it was written after all, the next attempt takes the row once
		// more: no other way is safe when two workers have one name.
		return true, fmt.Errorf("take %s: %w", info.ID, err)
	}
	if ok {
		g.start(info, next)
	}
	return ok, nil
}

// change writes a row that this worker may not hold. The owner may checkpoint
// it meanwhile, often; that is no reason not to write. Ok is false when the row
// is of another stream, has another owner or epoch, or asks for another hand-off, than it had in v.
func (g *Group) change(ctx context.Context, row checkpoint.Lease, f func(*checkpoint.Lease)) (_ checkpoint.Lease, ok bool, err error) {
	for range 20 {
		next := row.Clone()
		f(&next)
		got, err := g.c.Store.Update(ctx, next)
		if err == nil {
			return got, true, nil
		}
		if errors.Is(err, shardlog.ErrNotFound) {
			return row, false, nil
		}
		if !errors.Is(err, shardlog.ErrConflict) {
			return row, false, err
		}
		got, err = g.c.Store.Get(ctx, row.Key)
		if errors.Is(err, shardlog.ErrNotFound) {
			return row, false, nil
		}
		if err != nil {
			return row, false, err
		}
		if foreign(&got, row.StreamID) || got.Owner != row.Owner || got.Epoch != row.Epoch || got.Next != row.Next || got.Ended != row.Ended {
			return row, false, nil
		}
		row = got
	}
	return row, false, fmt.Errorf("%w: the row is changed again and again", checkpoint.ErrUnavailable)
}

// start begins the work on a shard that was just acquired.
func (g *Group) start(info shardlog.ShardInfo, row checkpoint.Lease) {
	l := g.newLease(info, row)
	g.update(info.ID, func(s *shardState) {
		s.lease, s.epoch = l, max(s.epoch, row.Epoch)
	})
	g.c.Owner.Notify(Event{Kind: Acquired, ShardID: info.ID, Epoch: row.Epoch, Position: row.Checkpoint})
	g.c.Owner.Acquired(l)
}

// describe reports the shards that this worker does not have.
func (g *Group) describe(v *snapshot, waiting map[string]string, ready []holding, a assignment, workers int) {
	o := Overview{Workers: workers, Ready: len(ready)}
	for _, h := range ready {
		if h.owner == "" {
			o.Free++
		}
	}
	g.mu.Lock()
	for _, id := range v.order {
		row, s := v.rows[id], g.shard(id)
		if s.lease != nil || s.gone || s.parked {
			continue
		}
		s.ended = s.ended || row.Ended
		st := ShardState{ShardID: id, Owner: row.Owner, Checkpoint: row.Checkpoint, Ended: s.ended}
		switch {
		case waiting[id] != "":
			st.Blocked = "parent " + waiting[id]
		case row.Owner == "" && !row.Ended && a.take[id] == "":
			st.Blocked = "no worker has room for it"
		}
		o.Shards = append(o.Shards, st)
	}
	g.mu.Unlock()
	g.c.Owner.Observed(o)
}

// working reports whether this worker has a shard, or has parked it.
func (g *Group) working(id string) (yes bool) {
	g.update(id, func(s *shardState) { yes = s.parked || s.lease.held() })
	return yes
}

func (g *Group) isGone(id string) (yes bool) {
	g.update(id, func(s *shardState) { yes = s.gone })
	return yes
}

// held is how many shards this worker has.
func (g *Group) held() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.shards {
		if s.lease.held() {
			n++
		}
	}
	return n
}

// revoke asks the owner of a lease to finish and release it. It returns false
// when this worker does not have the shard.
func (g *Group) revoke(id string, epoch uint64) bool {
	g.mu.Lock()
	var l *Lease
	if s := g.shards[id]; s != nil {
		l = s.lease
	}
	g.mu.Unlock()
	if !l.held() {
		return false
	}
	if l.epoch == epoch {
		g.c.Owner.Revoked(l)
	}
	return true
}
