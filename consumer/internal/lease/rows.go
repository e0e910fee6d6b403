package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// begin makes sure that the row of the group exists before any row of a shard
// does. Until it says that the group has begun, shards that are there start
// where Options.Start says, whichever worker creates their rows.
//
// One of another stream, of which no row of a shard is left, is replaced.
func (g *Group) begin(ctx context.Context, v *snapshot) error {
	want := checkpoint.Lease{
		Key:      checkpoint.Key{Group: g.c.Group, Stream: g.c.Stream + WorkersSuffix, Shard: groupRow},
		StreamID: g.streamID(), Checkpoint: g.c.Start,
		Ended: len(v.rows) > 0, // it began without such a row
	}
	var row checkpoint.Lease
	var err error
	switch old := g.peers.groupRow; {
	case old == nil:
		row, err = g.c.Store.Create(ctx, want)
	case foreign(old, want.StreamID) && len(v.rows) == 0:
		want.Version = old.Version
		row, err = g.c.Store.Update(ctx, want)
	default:
		row = *old
	}
	if errors.Is(err, shardlog.ErrExists) || errors.Is(err, shardlog.ErrConflict) || errors.Is(err, shardlog.ErrNotFound) {
		// Another worker has begun the group.
		if row, err = g.c.Store.Get(ctx, want.Key); errors.Is(err, shardlog.ErrNotFound) {
			err = fmt.Errorf("%w: the row comes and goes", checkpoint.ErrUnavailable)
		}
	}
	if err != nil {
		return fmt.Errorf("begin the group: %w", err)
	}
	if err := g.checkStream([]checkpoint.Lease{row}); err != nil {
		return err
	}
	g.peers.groupRow, v.begun, v.start = &row, row.Ended, g.c.Start
	if !row.Ended && len(v.rows) > 0 {
		// The worker that has begun may have had another option.
		v.start = row.Checkpoint
	}
	return nil
}

// finishBegin notes that every shard of the beginning has its row.
func (g *Group) finishBegin(ctx context.Context, v *snapshot) error {
	if v.begun || !g.peers.first(v.now) {
		return nil
	}
	row := *g.peers.groupRow
	row.StreamID, row.Ended = g.streamIDOr(row.StreamID), true
	_, err := g.c.Store.Update(ctx, row)
	if err != nil && !errors.Is(err, shardlog.ErrConflict) && !errors.Is(err, shardlog.ErrNotFound) {
		return fmt.Errorf("begin the group: %w", err)
	}
	v.begun = true
	return nil
}

// createRows adds the rows of shards that have none and whose parents are
// done. When a group begins there may be many: then one worker makes them, and
// the others wait for it as long as it lives.
func (g *Group) createRows(ctx context.Context, v *snapshot) error {
	if !v.begun && !g.peers.first(v.now) {
		return nil
	}
	var missing []checkpoint.Lease
	for _, id := range v.order {
		if v.known(id) {
			continue
		}
		info := v.infos[id]
		row := checkpoint.Lease{Key: g.key(id), StreamID: g.streamID(), Parents: info.Parents, HashStart: info.HashStart, HashEnd: info.HashEnd}
		g.update(id, func(s *shardState) { row.Epoch = s.epoch }) // a lost row must not bring old tokens back
		if children := v.childrenOf(id); v.begun && slices.ContainsFunc(children, v.known) {
			// The store has lost the row of a shard that was done.
			row.Ended, row.Children = true, children
		} else {
			from, ok, err := g.startOf(ctx, v, id)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			row.Checkpoint = from
		}
		missing = append(missing, row)
	}
	created := make([]checkpoint.Lease, len(missing))
	err := g.several(len(missing), func(i int) (err error) {
		created[i], err = g.createRow(ctx, v, missing[i])
		return err
	})
	owned := false
	for _, row := range created {
		if row.Version > 0 {
			v.rows[row.Shard] = row
			owned = owned || row.Owner != ""
		}
	}
	if err == nil && owned {
		// Somebody else made the row and has taken the shard; that worker may
		// have come after the workers were listed, see look.
		_, err = g.lookAtWorkers(ctx)
		v.now = time.Now()
	}
	return err
}

func (g *Group) createRow(ctx context.Context, v *snapshot, row checkpoint.Lease) (checkpoint.Lease, error) {
	created, err := g.c.Store.Create(ctx, row)
	if errors.Is(err, shardlog.ErrExists) {
		created, err = g.c.Store.Get(ctx, row.Key)
		if errors.Is(err, shardlog.ErrNotFound) {
			err = fmt.Errorf("%w: the row comes and goes", checkpoint.ErrUnavailable)
		}
		if err == nil {
			err = g.checkStream([]checkpoint.Lease{created})
		}
	} else if err == nil && v.begun && (row.Ended || row.Epoch > 0 || !slices.ContainsFunc(row.Parents, v.known)) {
		g.c.Owner.Notify(Event{Kind: RowMissing, ShardID: row.Shard, Epoch: row.Epoch, Position: row.Checkpoint})
	}
	if err != nil {
		return checkpoint.Lease{}, fmt.Errorf("create the row of %s: %w", row.Shard, err)
	}
	return created, nil
}

// atOnce is how many rows are written at a time. Stores commit them together,
// or have a network in between that is waited for once.
const atOnce = 8

// several calls f for 0 to n-1, some at a time, and returns the first error,
// after which it begins no more.
func (g *Group) several(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	var (
		wg   sync.WaitGroup
		next atomic.Int64
		mu   sync.Mutex
		errs []error
	)
	for range min(n, atOnce) {
		wg.Go(func() {
			defer g.c.Goroutines.Leave(g.c.Goroutines.Enter())
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := f(int(i)); err != nil {
					next.Store(int64(n))
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// childrenOf are the shards that continue id.
func (v *snapshot) childrenOf(id string) (children []string) {
	for _, c := range v.order {
		if slices.Contains(v.infos[c].Parents, id) {
			children = append(children, c)
		}
	}
	return children
}

// startOf says where a shard without a row begins; ok is false when that
// cannot be said before its parents are done.
func (g *Group) startOf(ctx context.Context, v *snapshot, id string) (from shardlog.Position, ok bool, err error) {
	info := v.infos[id]
	if v.start.Kind() == shardlog.KindLatest && !v.descends(info) {
		// Shards that are there when the group begins start at their own end,
		// parents and children alike. But if the group has begun long ago, a
		// shard whose ancestors are all forgotten is one that it has missed.
		orphan := len(info.Parents) > 0 && !slices.ContainsFunc(info.Parents, v.listed)
		if orphan && v.begun {
			return shardlog.TrimHorizon(), true, nil
		}
		return g.resolveLatest(ctx, id)
	}
	if g.blocker(v, info) != "" {
		return from, false, nil
	}
	if !slices.ContainsFunc(info.Parents, v.known) {
		return v.start, true, nil
	}
	// The shard continues where its parents ended, at its beginning. When the
	// group has read records before, the beginning is named by the number of
	// the shard and not as the trim horizon, so that losing records of it to
	// retention is noticed. When it has not, because all of them were before
	// the time where the group starts, that time still holds.
	for _, p := range info.Parents {
		switch c := v.rows[p].Checkpoint; {
		case c.Sequence().IsSet() && info.First.IsSet():
			return shardlog.After(info.First), true, nil
		case c.Kind() == shardlog.KindAtTime:
			from = c
		}
	}
	return from, true, nil
}

// descends reports whether an ancestor of the shard has a row.
func (v *snapshot) descends(info shardlog.ShardInfo) bool {
	return slices.ContainsFunc(info.Parents, func(p string) bool {
		return v.known(p) || v.listed(p) && v.descends(v.infos[p])
	})
}

// resolveLatest turns Latest into a position that stays where it is.
func (g *Group) resolveLatest(ctx context.Context, id string) (shardlog.Position, bool, error) {
	page, err := g.c.Source.Read(ctx, shardlog.ReadRequest{ShardID: id, From: shardlog.Latest(), MaxRecords: 1})
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
// parent that the stream does not have any more does not block, unless a worker
// that is alive still has it in hand.
func (g *Group) blocker(v *snapshot, info shardlog.ShardInfo) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range info.Parents {
		row := v.rows[p]
		if s := g.shards[p]; row.Ended || s != nil && (s.gone || s.ended) {
			continue
		}
		if v.listed(p) || v.known(p) && row.Owner != "" && g.peers.live(row.Owner, v.now) {
			return p
		}
	}
	return ""
}
