package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// view is the group's rows and the stream's shards at one moment.
type view struct {
	rows  map[string]checkpoint.Lease
	infos map[string]shardlog.ShardInfo
	order []string // the keys of infos, parents before children
}

// sync brings rows and tasks up to date with the shards of the stream. It may
// be repeated after any error.
func (r *run) sync(ctx context.Context) error {
	for {
		again, err := r.syncOnce(ctx)
		if err != nil || !again {
			return err
		}
	}
}

// syncOnce returns again when another worker changed a row in the meantime.
func (r *run) syncOnce(ctx context.Context) (again bool, err error) {
	v, err := r.look(ctx)
	if err != nil {
		return false, err
	}
	if err := r.verify(v); err != nil {
		return false, err
	}
	if again, err := r.createRows(ctx, v); again || err != nil {
		return again, err
	}
	if again, err := r.takeRows(ctx, v); again || err != nil {
		return again, err
	}
	r.synced = true
	r.startTasks(v)
	return false, nil
}

// look reads the rows first: a shard that has a row but is not in the list
// that was read afterwards does not exist any more.
func (r *run) look(ctx context.Context) (*view, error) {
	rows, err := r.o.Store.List(ctx, r.o.Group, r.o.Stream)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	infos, err := r.src.Shards(ctx)
	if err != nil {
		return nil, fmt.Errorf("list shards: %w", err)
	}
	v := &view{rows: map[string]checkpoint.Lease{}, infos: map[string]shardlog.ShardInfo{}}
	for _, l := range rows {
		v.rows[l.Shard] = l
	}
	if r.seen == nil {
		r.seen, r.initial = map[string]uint64{}, map[string]bool{}
		for _, l := range rows {
			r.seen[l.Shard] = l.Epoch
		}
		for _, s := range infos {
			r.initial[s.ID] = len(rows) == 0
		}
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
	var lost error
	var gone []Event
	r.mu.Lock()
	for id, row := range v.rows {
		s := r.shards[id]
		if s != nil && s.held && row.Epoch > s.lease.Epoch && lost == nil {
			lost = &shardlog.Error{Op: "consume", Stream: r.o.Stream, Shard: id, Err: lostTo(row)}
		}
		if s != nil && s.held && row.Epoch > s.lease.Epoch && s.lose != nil {
			s.lose(ErrLeaseLost)
		}
		if _, listed := v.infos[id]; !listed && !row.Ended && (s == nil || !s.gone && !s.started) {
			if s == nil {
				s = &shard{stats: ShardStats{ShardID: id, Checkpoint: row.Checkpoint}}
				r.shards[id] = s
			}
			s.gone = true
			s.stats.Blocked = "gone from the stream"
			gone = append(gone, Event{Kind: EventShardGone, ShardID: id, Epoch: row.Epoch, Position: row.Checkpoint})
		}
	}
	r.mu.Unlock()
	if lost != nil {
		return lost
	}
	for _, e := range gone {
		r.emit(e)
	}
	for id, row := range v.rows {
		at, first := row.Checkpoint.Sequence(), v.infos[id].First
		if !at.IsZero() && !first.IsZero() && !at.Created().Equal(first.Created()) {
			return &shardlog.Error{Op: "consume", Stream: r.o.Stream, Shard: id, Err: fmt.Errorf(
				"%w: the checkpoint is of a shard made at %v, but this one was made at %v: the stream was deleted and made again",
				shardlog.ErrConflict, at.Created().UTC(), first.Created().UTC())}
		}
	}
	return nil
}

func lostTo(row checkpoint.Lease) error {
	return fmt.Errorf("%w: %q has it, in epoch %d", ErrLeaseLost, row.Owner, row.Epoch)
}

// createRows adds the rows of shards that have none and whose parents are
// done. Children come first: if the worker dies in between, the shards that
// are still without a row have no ancestor with one, and so are known to be
// not resharded since, but there from the start.
func (r *run) createRows(ctx context.Context, v *view) (again bool, err error) {
	for _, id := range slices.Backward(v.order) {
		if _, ok := v.rows[id]; ok {
			continue
		}
		from, ok, err := r.startOf(ctx, v, id)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		info := v.infos[id]
		row, err := r.o.Store.Create(ctx, checkpoint.Lease{
			Key: r.key(id), Checkpoint: from,
			Parents: info.Parents, HashStart: info.HashStart, HashEnd: info.HashEnd,
		})
		if errors.Is(err, shardlog.ErrExists) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("create the row of %s: %w", id, err)
		}
		v.rows[id] = row
	}
	return false, nil
}

// startOf says where a shard without a row begins; ok is false when that
// cannot be said before its parents are done.
func (r *run) startOf(ctx context.Context, v *view, id string) (from shardlog.Position, ok bool, err error) {
	info := v.infos[id]
	if r.o.Start.Kind() == shardlog.KindLatest && !v.descends(info) {
		// Shards that are there when the group begins start at their own end,
		// parents and children alike. But if the group has begun long ago, a
		// shard whose ancestors are all forgotten is one that it has missed.
		orphan := len(info.Parents) > 0 && !slices.ContainsFunc(info.Parents, v.listed)
		if orphan && !r.initial[id] {
			return shardlog.TrimHorizon(), true, nil
		}
		return r.resolveLatest(ctx, id)
	}
	if r.blocker(v, info) != "" {
		return from, false, nil
	}
	if !slices.ContainsFunc(info.Parents, v.known) {
		return r.o.Start, true, nil
	}
	// The shard goes on where its parents ended, at its beginning. When the
	// group has read records before, the beginning is named by the number of
	// the shard and not as the trim horizon, so that losing records of it to
	// retention is noticed. When it has not, because all of them were before
	// the time where the group starts, that time still holds.
	for _, p := range info.Parents {
		switch c := v.rows[p].Checkpoint; {
		case rank(c) == 1 && !info.First.IsZero():
			return shardlog.After(info.First), true, nil
		case c.Kind() == shardlog.KindAtTime:
			from = c
		}
	}
	return from, true, nil
}

func (v *view) listed(id string) bool { _, ok := v.infos[id]; return ok }

func (v *view) known(id string) bool { _, ok := v.rows[id]; return ok }

// descends tells whether an ancestor of the shard has a row.
func (v *view) descends(info shardlog.ShardInfo) bool {
	return slices.ContainsFunc(info.Parents, func(p string) bool {
		return v.known(p) || v.listed(p) && v.descends(v.infos[p])
	})
}

// resolveLatest turns Latest into a position that stays where it is.
func (r *run) resolveLatest(ctx context.Context, id string) (shardlog.Position, bool, error) {
	page, err := r.src.Read(ctx, shardlog.ReadRequest{ShardID: id, From: shardlog.Latest(), MaxRecords: 1})
	switch {
	case errors.Is(err, shardlog.ErrNotFound), errors.Is(err, shardlog.ErrExpired):
		return shardlog.Position{}, false, nil // gone since it was listed
	case err != nil:
		return shardlog.Position{}, false, fmt.Errorf("find the end of %s: %w", id, err)
	case len(page.Records) > 0:
		return shardlog.At(page.Records[0].Sequence), true, nil
	case page.Next.Kind() == shardlog.KindLatest:
		return shardlog.Position{}, false, fmt.Errorf("%w: the source returned no fixed position for the end of %s", shardlog.ErrInvalid, id)
	}
	return page.Next, true, nil
}

// blocker returns a parent that has to be done first, "" when there is none. A
// parent that the stream does not have any more does not block.
func (r *run) blocker(v *view, info shardlog.ShardInfo) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range info.Parents {
		if s := r.shards[p]; s != nil && (s.gone || s.stats.Ended) {
			continue
		}
		if v.listed(p) && !v.rows[p].Ended {
			return p
		}
	}
	return ""
}

// takeRows takes every row that is not done, in the order of the IDs. Of two
// workers that start at once, the one that was last to take the first shard
// gets all: when the other one meets a row that was changed, again makes it
// look, and it finds that its first shard is lost.
func (r *run) takeRows(ctx context.Context, v *view) (again bool, err error) {
	ids := slices.Clone(v.order)
	slices.SortFunc(ids, strings.Compare)
	for _, id := range ids {
		row, ok := v.rows[id]
		if !ok {
			continue
		}
		taken := false
		r.update(id, func(s *shard) {
			s.stats.Ended = s.stats.Ended || row.Ended
			if !s.held {
				s.stats.Checkpoint = row.Checkpoint
			}
			taken = s.held || s.gone || row.Ended
		})
		if taken {
			continue
		}
		if wait, err := r.yields(row); err != nil {
			return false, err
		} else if wait {
			continue
		}
		next := row.Clone()
		next.Owner, next.Next = r.o.WorkerID, ""
		next.Epoch++
		next.Switches++
		next, err = r.o.Store.Update(ctx, next)
		if errors.Is(err, shardlog.ErrConflict) || errors.Is(err, shardlog.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			// If it was written after all, the next attempt takes the row once
			// more: no other way is safe when two workers have one name.
			return false, fmt.Errorf("take %s: %w", id, err)
		}
		r.update(id, func(s *shard) {
			s.held, s.lease, s.stats.Epoch = true, next, next.Epoch
		})
		r.emit(Event{Kind: EventLeaseTaken, ShardID: id, Epoch: next.Epoch, Position: next.Checkpoint})
	}
	return false, nil
}

// yields decides about a row that another worker has taken since this run
// began. Mostly that worker is the newer one, and is about to take all rows:
// then this one must not take any from it. But it can also be an older one
// that took a shard before it noticed that it was overtaken. Time tells them
// apart: a newer worker does not leave this one its other shards for long.
func (r *run) yields(row checkpoint.Lease) (wait bool, err error) {
	if !r.synced || row.Owner == "" || row.Owner == r.o.WorkerID || row.Epoch == r.seen[row.Shard] {
		return false, nil
	}
	live := false
	r.mu.Lock()
	for _, s := range r.shards {
		live = live || s.held && !s.gone && !s.stats.Ended
	}
	r.mu.Unlock()
	if !live {
		return false, &shardlog.Error{Op: "consume", Stream: r.o.Stream, Shard: row.Shard, Err: lostTo(row)}
	}
	since, ok := r.foreign[row.Shard]
	if !ok {
		since = time.Now()
		r.foreign[row.Shard] = since
		r.update(row.Shard, func(s *shard) { s.stats.Blocked = "held by " + row.Owner })
	}
	return time.Since(since) < r.o.DiscoverEvery, nil
}

// startTasks starts every shard that is held and has no parent to wait for.
func (r *run) startTasks(v *view) {
	for _, id := range v.order {
		info := v.infos[id]
		blocker := r.blocker(v, info)
		var t *task
		r.update(id, func(s *shard) {
			switch {
			case s.started || s.gone || s.stats.Ended:
			case blocker != "":
				s.stats.Blocked = "parent " + blocker
			case s.held && r.reading.Err() == nil:
				s.stats.Blocked = ""
				s.started = true
				t = newTask(r, info, s)
			}
		})
		if t != nil {
			r.tasks.Go(t.run)
		}
	}
}
