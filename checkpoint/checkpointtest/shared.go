package checkpointtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// RunShared checks stores over the same rows, as two processes have them: what
// one writes the other sees immediately, and of all writers one wins. Open returns
// two stores over the same, empty, rows; best are two processes, else what
// shares as little memory as they would.
func RunShared(t *testing.T, open func(t *testing.T) (a, b checkpoint.Store)) {
	t.Run("two stores are one", func(t *testing.T) {
		a, b := open(t)
		if err := CheckShared(a, b); err != nil {
			t.Error(err)
		}
	})
}

// CheckShared is RunShared without a test.
func CheckShared(a, b checkpoint.Store) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := a.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	_, err = b.Create(ctx, full())
	if err := wantError("create of a row that the other made", err, shardlog.ErrExists); err != nil {
		return err
	}
	for i, s := range []checkpoint.Store{b, a, b, a} {
		other := a
		if s == a {
			other = b
		}
		stale := l
		if l, err = s.Update(ctx, moved(l, uint64(300+i))); err != nil {
			return fmt.Errorf("update of what the other wrote: %w", err)
		}
		if err := stored(ctx, other, l); err != nil {
			return fmt.Errorf("the other store: %w", err)
		}
		if rows, err := other.List(ctx, l.Group, ""); err != nil || len(rows) != 1 || rows[0].Version != l.Version {
			return fmt.Errorf("list of the other store has %+v, error %v; want version %d", rows, err, l.Version)
		}
		_, err := other.Update(ctx, stale)
		if err := wantError("stale update in the other store", err, shardlog.ErrConflict); err != nil {
			return err
		}
	}
	const rounds, writers = 100, 8
	for range rounds {
		var mu sync.Mutex
		var next checkpoint.Lease
		_, err := race(writers, shardlog.ErrConflict, func(i int) error {
			s := a
			if i%2 == 1 {
				s = b
			}
			got, err := s.Update(ctx, moved(l, uint64(1000+i)))
			if err == nil {
				mu.Lock()
				next = got
				mu.Unlock()
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("updates of one version in both stores: %w", err)
		}
		l = next
	}
	if err := b.Delete(ctx, l); err != nil {
		return fmt.Errorf("delete of what the other wrote: %w", err)
	}
	_, err = a.Get(ctx, l.Key)
	return wantError("get of what the other deleted", err, shardlog.ErrNotFound)
}

// Many is the number of rows of RunMany.
const Many = 10_000

// RunMany checks that the rows of a large group are all listed. It is apart
// from Run because a remote store needs a while to make them.
func RunMany(t *testing.T, open func(t *testing.T) checkpoint.Store) {
	t.Run("many rows are listed", func(t *testing.T) {
		if err := CheckMany(open(t)); err != nil {
			t.Error(err)
		}
	})
}

// CheckMany is RunMany without a test.
func CheckMany(s checkpoint.Store) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	const writers = 32
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := w; i < Many && errs[w] == nil; i += writers {
				l := full()
				l.Shard, l.PreparedState = shardlog.ShardID(uint32(i)), nil
				_, errs[w] = s.Create(ctx, l)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	rows, err := s.List(ctx, full().Group, full().Stream)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	for i := range max(Many, len(rows)) {
		if want := shardlog.ShardID(uint32(i)); i >= len(rows) || rows[i].Shard != want {
			return fmt.Errorf("list has %d rows, want %d; it does not have %s in its place", len(rows), Many, want)
		}
	}
	return nil
}
