package checkpointtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// RunReopen checks that rows outlast a store that is closed and opened again.
// Open returns an empty store, and a function that closes it, or leaves it as a
// crash does, and opens it again.
func RunReopen(t *testing.T, open func(t *testing.T) (s checkpoint.Store, reopen func() checkpoint.Store)) {
	t.Run("rows outlast the store", func(t *testing.T) {
		s, reopen := open(t)
		if err := CheckReopen(s, reopen); err != nil {
			t.Error(err)
		}
	})
}

// CheckReopen is RunReopen without a test.
func CheckReopen(s checkpoint.Store, reopen func() checkpoint.Store) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	row, err := s.Create(ctx, full())
	if err == nil {
		row, err = s.Update(ctx, moved(row, 200))
	}
	var gone checkpoint.Lease
	if err == nil {
		gone, err = s.Create(ctx, checkpoint.Lease{Key: key("gone")})
	}
	if err == nil {
		err = s.Delete(ctx, gone)
	}
	if err != nil {
		return err
	}
	s = reopen()
	if err := stored(ctx, s, row); err != nil {
		return fmt.Errorf("after opening again: %w", err)
	}
	got, err := s.Get(ctx, row.Key)
	if err != nil || got.Version != row.Version {
		return fmt.Errorf("after opening again version %d is %d, error %v", row.Version, got.Version, err)
	}
	_, err = s.Get(ctx, gone.Key)
	if err := wantError("get of a row that was deleted before", err, shardlog.ErrNotFound); err != nil {
		return err
	}
	again, err := s.Create(ctx, checkpoint.Lease{Key: gone.Key})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if again.Version == gone.Version {
		return fmt.Errorf("version %d was given again after delete, opening again and create", again.Version)
	}
	return nil
}
