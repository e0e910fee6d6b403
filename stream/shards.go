package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Split divides an open shard in two. The upper one begins at newStart, or, if
// that is unset, in the middle. Writers wait while it is done; what they wrote
// before stays on the parent, which can be read until it expires, and what
// they write after goes to the children, so the order of each key is kept.
//
// It returns the IDs of the children, the lower first. Errors match
// shardlog.ErrNotFound, ErrShardClosed or ErrInvalid.
func (st *Stream) Split(ctx context.Context, shardID string, newStart shardlog.HashKey) ([]string, error) {
	if err := st.enter(ctx, "split"); err != nil {
		return nil, err
	}
	if err := st.shape.Lock(ctx); err != nil {
		return nil, st.fail("split", shardID, err)
	}
	defer st.shape.Unlock()
	sh, err := st.openShard("split", shardID)
	if err != nil {
		return nil, err
	}
	if !newStart.IsSet() {
		if sh.meta.Start == sh.meta.End {
			return nil, st.fail("split", shardID, &shardlog.InvalidError{Field: "shard", Value: shardID, Limit: "one with at least two hash keys"})
		}
		newStart = middle(sh.meta.Start, sh.meta.End)
	}
	if newStart.Compare(sh.meta.Start) <= 0 || newStart.Compare(sh.meta.End) > 0 {
		return nil, st.fail("split", shardID, &shardlog.InvalidError{Field: "newStart", Value: newStart.String(),
			Limit: fmt.Sprintf("above %v and not above %v", sh.meta.Start, sh.meta.End)})
	}
	if err := st.checkCount(len(st.routes.Load().open) + 1); err != nil {
		return nil, st.fail("split", shardID, err)
	}
	ids, err := st.reshape(ctx, []replacement{{parents: []*streamShard{sh}, starts: []shardlog.HashKey{sh.meta.Start, newStart}, end: sh.meta.End}})
	if err != nil {
		return nil, st.fail("split", shardID, err)
	}
	return ids, nil
}

// Merge joins two open shards whose ranges of hash keys are next to each
// other; their order does not matter. It returns the ID of the child. For
// writers, readers and errors see Split.
func (st *Stream) Merge(ctx context.Context, shardID, adjacentID string) (string, error) {
	if err := st.enter(ctx, "merge"); err != nil {
		return "", err
	}
	if err := st.shape.Lock(ctx); err != nil {
		return "", st.fail("merge", shardID, err)
	}
	defer st.shape.Unlock()
	a, err := st.openShard("merge", shardID)
	if err != nil {
		return "", err
	}
	b, err := st.openShard("merge", adjacentID)
	if err != nil {
		return "", err
	}
	if a.meta.Start.Compare(b.meta.Start) > 0 {
		a, b = b, a
	}
	if next, ok := a.meta.End.Next(); !ok || next != b.meta.Start {
		return "", st.fail("merge", shardID, &shardlog.InvalidError{Field: "adjacentID", Value: adjacentID, Limit: "a shard whose hash key range is next to that of " + shardID})
	}
	ids, err := st.reshape(ctx, []replacement{{parents: []*streamShard{a, b}, starts: []shardlog.HashKey{a.meta.Start}, end: b.meta.End}})
	if err != nil {
		return "", st.fail("merge", shardID, err)
	}
	return ids[0], nil
}

// Reshard changes the number of open shards to n with equal ranges of hash
// keys, by splits and then merges. It is done in steps, each of which leaves a
// complete stream; if ctx ends before all are done, the error is that of
// ctx, the rest is not done, and another call continues. One Reshard waits for
// another of the same stream.
func (st *Stream) Reshard(ctx context.Context, n int) error {
	if err := st.enter(ctx, "reshard"); err != nil {
		return err
	}
	if err := st.checkCount(n); err != nil {
		return st.fail("reshard", "", err)
	}
	if err := st.resharding.Lock(ctx); err != nil {
		return st.fail("reshard", "", err)
	}
	defer st.resharding.Unlock()
	bounds := evenRanges(n)
	for {
		more, err := st.reshardStep(ctx, bounds)
		if err != nil {
			return st.fail("reshard", "", err)
		}
		if !more {
			return nil
		}
	}
}

// reshardStep splits shards at bounds, or if there is nothing to split merges
// pairs between bounds. Writers may run between two steps.
func (st *Stream) reshardStep(ctx context.Context, bounds []shardlog.HashKey) (more bool, err error) {
	if err := st.enter(ctx, "reshard"); err != nil {
		return false, err
	}
	if err := st.shape.Lock(ctx); err != nil {
		return false, err
	}
	defer st.shape.Unlock()
	open := st.routes.Load().open
	steps := splitsAt(open, bounds)
	if len(steps) == 0 {
		steps = mergesBetween(open, bounds)
	}
	if len(steps) == 0 {
		return false, nil
	}
	_, err = st.reshape(ctx, steps)
	return err == nil, err
}

// splitsAt returns splits at bounds, as many as one transaction takes. A shard
// that has to be cut very often is cut in several steps.
func splitsAt(open []*streamShard, bounds []shardlog.HashKey) (steps []replacement) {
	i, changed := 0, 0
	for _, sh := range open {
		starts := []shardlog.HashKey{sh.meta.Start}
		for ; i < len(bounds) && bounds[i].Compare(sh.meta.End) <= 0; i++ {
			if bounds[i].Compare(sh.meta.Start) > 0 && changed+len(starts) < shardsPerChange {
				starts = append(starts, bounds[i])
			}
		}
		if len(starts) > 1 {
			steps = append(steps, replacement{parents: []*streamShard{sh}, starts: starts, end: sh.meta.End})
			changed += 1 + len(starts)
		}
		if changed+2 >= shardsPerChange {
			break
		}
	}
	return steps
}

func mergesBetween(open []*streamShard, bounds []shardlog.HashKey) (steps []replacement) {
	isBound := make(map[shardlog.HashKey]bool, len(bounds))
	for _, b := range bounds {
		isBound[b] = true
	}
	for i := 0; i+1 < len(open) && 3*len(steps) < shardsPerChange; i++ {
		if a, b := open[i], open[i+1]; !isBound[b.meta.Start] {
			steps = append(steps, replacement{parents: []*streamShard{a, b}, starts: []shardlog.HashKey{a.meta.Start}, end: b.meta.End})
			i++
		}
	}
	return steps
}

func (st *Stream) checkCount(n int) error {
	if n < 1 || n > MaxShards {
		return &shardlog.InvalidError{Field: "shards", Value: n, Limit: fmt.Sprintf("1 to %d", MaxShards)}
	}
	return nil
}

func (st *Stream) openShard(op, shardID string) (*streamShard, error) {
	if st.deleted.Load() {
		return nil, st.fail(op, shardID, shardlog.ErrNotFound)
	}
	sh := st.routes.Load().find(shardID)
	if sh == nil {
		return nil, st.fail(op, shardID, shardlog.ErrNotFound)
	}
	if sh.meta.Closed {
		return nil, st.fail(op, shardID, shardlog.ErrShardClosed)
	}
	return sh, nil
}

// replacement is a change of the shards: parents are closed, and children that
// begin at starts take over their hash keys up to end.
type replacement struct {
	parents []*streamShard
	starts  []shardlog.HashKey
	end     shardlog.HashKey
}

// reshape makes replacements in one transaction, with shape held, and
// returns the IDs of the children in their order. It does not respect ctx: half a
// change of the shards would not be a valid set.
func (st *Stream) reshape(ctx context.Context, steps []replacement) ([]string, error) {
	now := time.Now()
	old := st.routes.Load()
	first := old.all[len(old.all)-1].index() + 1
	var metas []shardMeta
	var closing []*streamShard
	for _, r := range steps {
		// A child's creation is later than its parents', at least by the
		// second that sequence numbers contain, also when one reshard follows
		// another immediately: numbers grow along the lineage.
		created := now.Unix()
		var parents []uint32
		for _, p := range r.parents {
			created = max(created, p.meta.Created+1)
			parents = append(parents, p.index())
		}
		closing = append(closing, r.parents...)
		for i, start := range r.starts {
			end := r.end
			if i+1 < len(r.starts) {
				end, _ = r.starts[i+1].Prev()
			}
			metas = append(metas, shardMeta{Parents: parents, Start: start, End: end, Created: created, Base: st.base(now)})
		}
	}
	closed := make([]shardMeta, len(closing))
	created, err := st.db.log.Change(context.WithoutCancel(ctx), st.describeChange(first, metas, closing, closed))
	if err != nil {
		return nil, err
	}
	return st.install(old, metas, created, closing, closed), nil
}

// install makes a change of the shards visible, with shape held.
func (st *Stream) install(old *routes, metas []shardMeta, created []*logstore.Shard, closing []*streamShard, closed []shardMeta) []string {
	replaced := make(map[*streamShard]*streamShard, len(closing))
	for i, sh := range closing {
		replaced[sh] = &streamShard{s: sh.s, handle: sh.handle, meta: closed[i], lim: sh.lim, ctr: sh.ctr}
	}
	all := make([]*streamShard, 0, len(old.all)+len(created))
	for _, sh := range old.all {
		if r := replaced[sh]; r != nil {
			sh = r
		}
		all = append(all, sh)
	}
	ids := make([]string, len(created))
	for i, s := range created {
		ids[i] = s.Name()
		all = append(all, st.newShard(s, metas[i]))
	}
	st.routes.Store(newRoutes(all))
	return ids
}
