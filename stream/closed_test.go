package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

func everyCheckpointCall(db *DB, ctx context.Context) map[string]error {
	l := checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}, Version: 1}
	errs := map[string]error{}
	cps := db.Checkpoints()
	_, errs["Create"] = cps.Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "new"}})
	_, errs["Get"] = cps.Get(ctx, l.Key)
	_, errs["List"] = cps.List(ctx, "g", "")
	_, errs["Update"] = cps.Update(ctx, l)
	errs["Delete"] = cps.Delete(ctx, l)
	return errs
}

func newForCalls(t *testing.T) (*DB, *Stream) {
	db := openMem(t)
	st := create(t, db, "s", Config{Shards: 2, Tags: map[string]string{"a": "b"}})
	create(t, db, "s2", Config{})
	put(t, st, "a", "x")
	_, err := db.Checkpoints().Create(t.Context(), checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}})
	require.NoError(t, err)
	return db, st
}

func TestEveryMethodRefusesANilContext(t *testing.T) {
	db, st := newForCalls(t)
	before := snapshotOf(t, st)
	for name, err := range everyCall(db, st, nil) {
		t.Run(name, func(t *testing.T) { requireInvalid(t, err, "ctx") })
	}
	//lint:ignore SA1012 that is the test
	requireInvalid(t, Restore(nil, t.TempDir(), strings.NewReader(""), nil), "ctx")
	require.Equal(t, before, snapshotOf(t, st))
}

func TestEveryMethodRespectsAnEndedContext(t *testing.T) {
	db, st := newForCalls(t)
	before := snapshotOf(t, st)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for name, err := range everyCall(db, st, ctx) {
		t.Run(name, func(t *testing.T) {
			require.Error(t, err)
			require.True(t, errors.Is(err, why) || errors.Is(err, context.Canceled), "%v", err)
			require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome)
		})
	}
	require.Equal(t, before, snapshotOf(t, st))
	rows, err := db.Checkpoints().List(t.Context(), "g", "")
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.EqualValues(t, 1, rows[0].Version)
	require.Error(t, Restore(ctx, t.TempDir(), strings.NewReader(""), nil))
}

func TestEveryMethodFailsAfterClose(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		t.Run(fmt.Sprintf("in memory: %t", inMemory), func(t *testing.T) {
			dir, o := t.TempDir(), smallOptions()
			if inMemory {
				dir, o = "", &Options{InMemory: true}
			}
			db, err := Open(dir, o)
			require.NoError(t, err)
			st := create(t, db, "s", Config{Shards: 2})
			put(t, st, "a", "x")
			require.NoError(t, db.Close())
			require.NoError(t, db.Close())
			for name, err := range everyCall(db, st, t.Context()) {
				t.Run(name, func(t *testing.T) { require.ErrorIs(t, err, shardlog.ErrClosed) })
			}
			require.ErrorIs(t, db.Sync(), shardlog.ErrClosed)
			// What cannot fail does not panic either.
			require.Equal(t, "s", st.Name())
			require.Equal(t, 2, st.Info().OpenShards)
			require.Len(t, st.Stats().Shards, 2)
			require.Equal(t, 1, db.Stats().Streams)
		})
	}
}

// A stream of the same name is another one, which nothing reaches that is called
// on the first.
func TestMethodsOfADeletedStreamFail(t *testing.T) {
	for _, again := range []bool{false, true} {
		db, st := newForCalls(t)
		require.NoError(t, db.Delete(t.Context(), "s"))
		before := ""
		var next *Stream
		if again {
			next = create(t, db, "s", Config{Shards: 2})
			put(t, next, "a", "of the second")
			before = snapshotOf(t, next)
		}
		calls := everyCall(db, st, t.Context())
		_, calls["StreamID"] = st.StreamID(t.Context())
		calls["SetAttributes"] = st.SetAttributes(t.Context(), map[string]string{"a": "b"})
		calls["SetMaxRecordSize"] = st.SetMaxRecordSize(t.Context(), 1<<20)
		_, calls["Shard"] = st.Shard(shardID(0))
		_, calls["Resolve"] = st.Resolve(t.Context(), shardID(0), shardlog.Latest())
		for name, err := range calls {
			switch {
			case strings.HasPrefix(name, "Checkpoints."):
			case name == "Create" || name == "Ensure" || name == "Delete" || name == "Streams" || name == "Backup" || name == "Stream" && again:
				require.NoError(t, err, name)
			default:
				require.ErrorIs(t, err, shardlog.ErrNotFound, name)
			}
		}
		_ = st.Info()
		_ = st.Stats()
		if again {
			require.Equal(t, before, snapshotOf(t, next))
		}
	}
}

func TestCloseEndsWaitingCalls(t *testing.T) {
	db := openMem(t)
	st := create(t, db, "s", Config{})
	errs := make(chan error, 2)
	other := create(t, db, "other", Config{})
	go func() {
		_, err := other.Read(context.Background(), shardlog.ReadRequest{ShardID: shardID(0), Wait: time.Hour})
		errs <- err
	}()
	go func() {
		for _, err := range st.Tail(context.Background(), shardID(0), shardlog.Latest()) {
			if err != nil {
				errs <- err
			}
		}
	}()
	var writers sync.WaitGroup
	begun := make(chan struct{}, 4)
	for i := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				if _, err := st.Put(context.Background(), shardlog.Record{PartitionKey: fmt.Sprint(i)}); err != nil {
					if !errors.Is(err, shardlog.ErrClosed) {
						t.Error(err)
					}
					return
				}
				if n == 0 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-begun
	}
	require.NoError(t, db.Close())
	writers.Wait()
	for range 2 {
		require.ErrorIs(t, <-errs, shardlog.ErrClosed)
	}
}

func TestCloseIsIdempotentAndConcurrent(t *testing.T) {
	for range 3 {
		db, err := Open(t.TempDir(), smallOptions())
		require.NoError(t, err)
		st := create(t, db, "s", Config{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for db.Sync() == nil {
				}
			})
			wg.Go(func() {
				for range 1000 {
					db.Stats()
				}
			})
			wg.Go(func() {
				for {
					if _, err := st.Put(context.Background(), shardlog.Record{PartitionKey: "k"}); err != nil {
						return
					}
				}
			})
			wg.Go(func() {
				for db.Backup(context.Background(), &strings.Builder{}) == nil {
				}
			})
		}
		for range 4 {
			wg.Go(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir, smallOptions())
	_, err := Open(dir, smallOptions())
	require.ErrorIs(t, err, shardlog.ErrLocked)
	st := create(t, db, "s", Config{})
	put(t, st, "a", "x") // the first is not disturbed
}
