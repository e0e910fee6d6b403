package checkpointtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

func createTwice(ctx context.Context, s checkpoint.Store) error {
	if _, err := s.Create(ctx, full()); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	_, err := s.Create(ctx, checkpoint.Lease{Key: full().Key, Owner: "other"})
	if err := wantError("the second create", err, shardlog.ErrExists); err != nil {
		return err
	}
	return stored(ctx, s, full())
}

func missingRows(ctx context.Context, s checkpoint.Store) error {
	_, err := s.Get(ctx, key("none"))
	if err := wantError("get", err, shardlog.ErrNotFound); err != nil {
		return err
	}
	for _, version := range []uint64{0, 1} {
		l := checkpoint.Lease{Key: key("none"), Version: version}
		_, err := s.Update(ctx, l)
		if err := wantError("update", err, shardlog.ErrNotFound); err != nil {
			return err
		}
		if err := wantError("delete", s.Delete(ctx, l), shardlog.ErrNotFound); err != nil {
			return err
		}
	}
	rows, err := s.List(ctx, "group", "stream")
	if err != nil || len(rows) != 0 {
		return fmt.Errorf("list of an empty store: %d rows, error %v", len(rows), err)
	}
	return nil
}

// staleUpdate is the rule that keeps a worker that was away from undoing the
// work of its successor.
func staleUpdate(ctx context.Context, s checkpoint.Store) error {
	old, err := s.Create(ctx, checkpoint.Lease{Key: key("s"), Owner: "old", Epoch: 1})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	want := old
	want.Owner, want.Epoch = "new", 2
	if want, err = s.Update(ctx, want); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	want.Checkpoint = shardlog.After(seq(200))
	if want, err = s.Update(ctx, want); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	old.Checkpoint = shardlog.After(seq(100))
	for _, version := range []uint64{old.Version, 0, want.Version + 1} {
		old.Version = version
		_, err = s.Update(ctx, old)
		if err := wantError(fmt.Sprintf("update with version %d instead of %d", version, want.Version), err, shardlog.ErrConflict); err != nil {
			return err
		}
	}
	return stored(ctx, s, want)
}

func versionsGrow(ctx context.Context, s checkpoint.Store) error {
	l, err := s.Create(ctx, checkpoint.Lease{Key: key("s"), Version: 1 << 60})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for range 10 {
		before := l.Version
		if l, err = s.Update(ctx, l); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if l.Version <= before {
			return fmt.Errorf("version %d after %d", l.Version, before)
		}
		got, err := s.Get(ctx, l.Key)
		if err != nil || got.Version != l.Version {
			return fmt.Errorf("update returned version %d, get %d with error %v", l.Version, got.Version, err)
		}
	}
	return nil
}

func noVersionReuse(ctx context.Context, s checkpoint.Store) error {
	seen := map[uint64]bool{}
	var dead []checkpoint.Lease
	for range 5 {
		l, err := s.Create(ctx, checkpoint.Lease{Key: key("s"), Owner: "worker"})
		for i := 0; err == nil && i < 3; i++ {
			if seen[l.Version] {
				return fmt.Errorf("version %d was used before", l.Version)
			}
			seen[l.Version] = true
			dead = append(dead, l)
			l, err = s.Update(ctx, l)
		}
		if err != nil {
			return fmt.Errorf("create or update: %w", err)
		}
		seen[l.Version] = true
		for _, d := range dead {
			_, err := s.Update(ctx, d)
			if err := wantError("update with a version from before delete and create", err, shardlog.ErrConflict); err != nil {
				return err
			}
		}
		if err := s.Delete(ctx, l); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		dead = append(dead, l)
	}
	return nil
}

func staleDelete(ctx context.Context, s checkpoint.Store) error {
	old, err := s.Create(ctx, checkpoint.Lease{Key: key("s"), Owner: "old"})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	l := old
	l.Owner = "new"
	if l, err = s.Update(ctx, l); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if err := wantError("delete with an old version", s.Delete(ctx, old), shardlog.ErrConflict); err != nil {
		return err
	}
	if err := stored(ctx, s, l); err != nil {
		return err
	}
	if err := s.Delete(ctx, l); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	_, err = s.Get(ctx, l.Key)
	return wantError("get after delete", err, shardlog.ErrNotFound)
}

// oneUpdateWins runs many rounds because a store that checks and then writes,
// in two steps, goes wrong only now and then.
func oneUpdateWins(ctx context.Context, s checkpoint.Store) error {
	const rounds, workers = 300, 16
	l, err := s.Create(ctx, checkpoint.Lease{Key: key("s")})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for round := range rounds {
		winner, err := race(workers, shardlog.ErrConflict, func(i int) error {
			mine := l
			mine.Owner = fmt.Sprint(i)
			_, err := s.Update(ctx, mine)
			return err
		})
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if l, err = s.Get(ctx, l.Key); err != nil {
			return fmt.Errorf("get: %w", err)
		}
		if l.Owner != fmt.Sprint(winner) {
			return fmt.Errorf("round %d: worker %d won, but the row says %q", round, winner, l.Owner)
		}
	}
	return nil
}

func oneCreateWins(ctx context.Context, s checkpoint.Store) error {
	const rounds, workers = 20, 32
	for round := range rounds {
		k := key(fmt.Sprint(round))
		winner, err := race(workers, shardlog.ErrExists, func(i int) error {
			_, err := s.Create(ctx, checkpoint.Lease{Key: k, Owner: fmt.Sprint(i)})
			return err
		})
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		l, err := s.Get(ctx, k)
		if err != nil || l.Owner != fmt.Sprint(winner) {
			return fmt.Errorf("round %d: worker %d won, but the row says %q, error %v", round, winner, l.Owner, err)
		}
	}
	return nil
}

// race calls f at the same time from several goroutines and returns the index of the
// one that succeeded; all others must have failed with lost.
func race(workers int, lost error, f func(i int) error) (winner int, err error) {
	var (
		wg    sync.WaitGroup
		wins  atomic.Int32
		last  atomic.Int32
		start = make(chan struct{})
		errs  = make([]error, workers)
	)
	for i := range workers {
		wg.Go(func() {
			<-start
			switch err := f(i); {
			case err == nil:
				wins.Add(1)
				last.Store(int32(i))
			case !errors.Is(err, lost):
				errs[i] = fmt.Errorf("a loser got the error %q, want one that matches %q", err, lost)
			}
		})
	}
	close(start)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	if n := wins.Load(); n != 1 {
		return 0, fmt.Errorf("%d of %d succeeded", n, workers)
	}
	return int(last.Load()), nil
}

// listComplete uses more rows than the usual page of a remote store.
func listComplete(ctx context.Context, s checkpoint.Store) error {
	const rows, writers = 1200, 16
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := w; i < rows && errs[w] == nil; i += writers {
				// Backwards, so that the order of creation is not the answer.
				_, errs[w] = s.Create(ctx, checkpoint.Lease{Key: key(shardlog.ShardID(uint32(rows - 1 - i)))})
			}
		})
	}
	wg.Wait()
	others := []checkpoint.Key{
		{Group: "group", Stream: "other", Shard: "x"}, {Group: "group", Stream: "stream2", Shard: "shardId-000000000000"},
		{Group: "group2", Stream: "stream", Shard: "x"}, {Group: "grou", Stream: "pstream", Shard: "x"}, {Group: "Group", Stream: "stream", Shard: "x"},
	}
	for _, k := range others {
		_, err := s.Create(ctx, checkpoint.Lease{Key: k})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for _, c := range []struct {
		group, stream string
		want          int
	}{{"group", "stream", rows}, {"group", "", rows + 2}, {"group2", "", 1}, {"group", "none", 0}, {"none", "", 0}, {"group2", "other", 0}} {
		got, err := s.List(ctx, c.group, c.stream)
		if err != nil {
			return fmt.Errorf("list of %q %q: %w", c.group, c.stream, err)
		}
		if len(got) != c.want {
			return fmt.Errorf("list of %q %q: %d rows, want %d", c.group, c.stream, len(got), c.want)
		}
		for i, l := range got {
			if l.Group != c.group || (c.stream != "" && l.Stream != c.stream) {
				return fmt.Errorf("list of %q %q has the row %q", c.group, c.stream, l.Key)
			}
			if i > 0 && got[i-1].Key.Compare(l.Key) >= 0 {
				return fmt.Errorf("list of %q %q is not sorted, or has a row twice: %q before %q", c.group, c.stream, got[i-1].Key, l.Key)
			}
		}
	}
	return nil
}

func listFresh(ctx context.Context, s checkpoint.Store) error {
	l, err := s.Create(ctx, checkpoint.Lease{Key: key("s")})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for i := range uint64(50) {
		l.Beat = i + 1
		if l, err = s.Update(ctx, l); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		rows, err := s.List(ctx, l.Group, l.Stream)
		if err != nil || len(rows) != 1 || rows[0].Beat != l.Beat {
			return fmt.Errorf("after update %d: list returned %+v, error %v", l.Beat, slices.Clip(rows), err)
		}
	}
	if err := s.Delete(ctx, l); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if rows, err := s.List(ctx, l.Group, l.Stream); err != nil || len(rows) != 0 {
		return fmt.Errorf("list after delete: %d rows, error %v", len(rows), err)
	}
	return nil
}

func endedContext(ctx context.Context, s checkpoint.Store) error {
	l, err := s.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	changed := l.Clone()
	changed.Owner = "changed"
	_, updateErr := s.Update(ended, changed)
	_, createErr := s.Create(ended, checkpoint.Lease{Key: key("new")})
	_, getErr := s.Get(ended, l.Key)
	_, listErr := s.List(ended, l.Group, l.Stream)
	for op, err := range map[string]error{"update": updateErr, "create": createErr, "delete": s.Delete(ended, l), "get": getErr, "list": listErr} {
		if err := wantError(op, err, context.Canceled); err != nil {
			return err
		}
	}
	_, err = s.Get(ctx, key("new"))
	if err := wantError("get of a row that was created with an ended context", err, shardlog.ErrNotFound); err != nil {
		return err
	}
	return stored(ctx, s, full())
}
