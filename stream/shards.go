package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/shard"
)

// shardsPerChange bounds how many shards one transaction creates: their
// metadata, some 300 bytes each, is kept in the store's tree.
const shardsPerChange = 150

func (st *Stream) shardConfig(id logstore.ID, m *shardMeta) logstore.Config {
	return logstore.Config{
		ID: id, Created: m.Created, Base: m.Base, Codec: st.meta.Load().Compression.codec(),
		Closed: m.Closed, Last: m.Last, Floor: m.Floor, Usage: &st.usage,
	}
}

func (st *Stream) newShard(s *logstore.Shard, m shardMeta) *streamShard {
	return &streamShard{s: s, handle: shard.New(s, &shardOwner{st, s}), meta: m, lim: newLimiter(st.meta.Load().Limits), ctr: &counters{}}
}

// base returns the counter below those of a new shard. In a durable database
// the second of the shard's creation, which is in each number, distinguishes them
// from those of any other shard, unless a stream is deleted and recreated within
// a second: so the nanosecond is in the upper half of the counter, above all that
// is counted. A database in memory forgets what it gave out, so its numbers begin
// at the nanosecond, and none is given out again when it is recreated.
func (st *Stream) base(now time.Time) uint64 {
	if st.db.opts.InMemory {
		return uint64(now.UnixNano()) & (shardlog.MaxCounter >> 1)
	}
	return uint64(now.Nanosecond()) << 32
}

func (st *Stream) firstShards(n int, now time.Time) []shardMeta {
	starts := evenRanges(n)
	metas := make([]shardMeta, n)
	for i := range metas {
		end := shardlog.MaxHashKey
		if i+1 < n {
			end, _ = starts[i+1].Prev()
		}
		metas[i] = shardMeta{Start: starts[i], End: end, Created: now.Unix(), Base: st.base(now)}
	}
	return metas
}

// describeChange describes the creation of shards with indexes from first on, and the
// closing of others, as one change of the log.
func (st *Stream) describeChange(first uint32, metas []shardMeta, closing []*streamShard, closed []shardMeta) logstore.Change {
	c := logstore.Change{}
	for i := range metas {
		c.Create = append(c.Create, st.shardConfig(logstore.ID{Stream: st.id, Shard: first + uint32(i)}, &metas[i]))
	}
	for _, sh := range closing {
		c.Close = append(c.Close, sh.s)
	}
	c.Apply = func(tx *logstore.Tx) error {
		for i := range metas {
			tx.Set(shardKey(c.Create[i].ID), mustJSON(&metas[i]))
		}
		for i, sh := range closing {
			closed[i] = sh.meta
			closed[i].Closed, closed[i].ClosedAt, closed[i].Last = true, time.Now().UnixMilli(), sh.s.LastCounter()
			tx.Set(shardKey(sh.s.ID()), mustJSON(&closed[i]))
		}
		return nil
	}
	return c
}

// check returns an error unless the open shards cover each hash key once.
func (r *routes) check() error {
	if len(r.open) == 0 {
		return errors.New("no open shard")
	}
	want := shardlog.NewHashKey(0, 0)
	for i, sh := range r.open {
		if sh.meta.Start != want {
			return fmt.Errorf("%s begins at hash key %v, expected %v", sh.s.Name(), sh.meta.Start, want)
		}
		var more bool
		if want, more = sh.meta.End.Next(); more != (i+1 < len(r.open)) {
			return fmt.Errorf("%s ends at hash key %v", sh.s.Name(), sh.meta.End)
		}
	}
	return nil
}

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

// delete removes the stream; DB.manage is held. Until the mark is stored nothing
// has happened; from then on the stream is gone, and an error is one of
// reclaiming its space.
func (st *Stream) delete(ctx context.Context) error {
	if err := st.markDeleted(ctx); err != nil {
		return err
	}
	st.db.mu.Lock()
	delete(st.db.streams, st.name)
	st.db.mu.Unlock()
	if err := st.drop(ctx); err != nil {
		if !errors.Is(err, shardlog.ErrUnknownOutcome) {
			err = errors.Join(shardlog.ErrUnknownOutcome, err)
		}
		return fmt.Errorf("the stream is deleted; its space is reclaimed when the database is opened again: %w", err)
	}
	return nil
}

// markDeleted stores that the stream is deleted. It does not respect ctx once
// it has the locks, so that it is certain whether the mark is stored.
func (st *Stream) markDeleted(ctx context.Context) error {
	// With config held, nobody who changes the configuration stores the stream
	// again without the mark.
	if err := st.config.Lock(ctx); err != nil {
		return err
	}
	defer st.config.Unlock()
	if err := st.shape.Lock(ctx); err != nil {
		return err
	}
	defer st.shape.Unlock()
	meta := *st.meta.Load()
	meta.Deleting = true
	err := st.db.log.Do(context.WithoutCancel(ctx), func(tx *logstore.Tx) error {
		tx.Set(streamKey(st.id), mustJSON(&meta))
		return nil
	})
	if err == nil {
		st.deleted.Store(true)
	}
	return err
}

// drop removes the records of a deleted stream, and what else is stored of it.
func (st *Stream) drop(ctx context.Context) error {
	for _, sh := range st.routes.Load().all {
		if err := st.dropShard(ctx, sh); err != nil {
			return err
		}
	}
	if err := st.dropProducers(ctx); err != nil {
		return err
	}
	return st.db.log.Do(ctx, func(tx *logstore.Tx) error {
		tx.Delete(streamKey(st.id))
		return nil
	})
}

func (st *Stream) dropShard(ctx context.Context, sh *streamShard) error {
	return st.db.log.Drop(ctx, sh.s, func(tx *logstore.Tx) error {
		tx.Delete(shardKey(sh.s.ID()))
		return nil
	})
}
