package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

func ensure(t testing.TB, db *DB, name string, cfg Config) *Stream {
	t.Helper()
	st, err := db.Ensure(t.Context(), name, cfg)
	require.NoError(t, err)
	return st
}

func TestEnsureCreatesAndThenReturnsTheStream(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{
		Shards: 3, Retention: time.Hour, RetentionBytes: 1 << 20, MaxRecordSize: 1000, Compression: S2, Hash: XXHash,
		Limits: KinesisLimits(), DedupWindow: time.Minute, Tags: map[string]string{"team": "a"}, Attributes: map[string]string{"x": "y"},
	}
	db, err := Open(dir, smallOptions())
	require.NoError(t, err)
	st := ensure(t, db, "s", cfg)
	put(t, st, "k", "first")
	require.Same(t, st, ensure(t, db, "s", cfg))
	require.NoError(t, db.Close())

	db = openDB(t, dir, smallOptions())
	st = ensure(t, db, "s", cfg)
	require.Len(t, readStream(t, st), 1)
	require.Same(t, st, ensure(t, db, "s", Config{}), "what is not set is whatever it has")
	require.Same(t, st, ensure(t, db, "s", Config{Tags: map[string]string{"team": "a"}, Shards: 3}))
	require.NoError(t, st.SetTags(t.Context(), map[string]string{"another": "tag"}))
	require.Same(t, st, ensure(t, db, "s", cfg), "tags that are not asked for do not matter")
}

func TestEnsureNamesEachFieldThatDiffers(t *testing.T) {
	db := openMem(t)
	have := Config{
		Shards: 3, Retention: time.Hour, RetentionBytes: 1 << 20, MaxRecordSize: 1000, Compression: S2, Hash: XXHash,
		Limits: KinesisLimits(), DedupWindow: time.Minute, Tags: map[string]string{"team": "a"}, Attributes: map[string]string{"x": "y"},
	}
	st := create(t, db, "s", have)
	put(t, st, "k", "x")
	before := snapshotOf(t, st)
	want := Config{
		Shards: 4, Retention: 2 * time.Hour, RetentionBytes: 2 << 20, MaxRecordSize: 2000, Compression: Zstd,
		Limits: Limits{ReadCalls: 1}, DedupWindow: time.Second, Tags: map[string]string{"team": "b", "new": "c"}, Attributes: map[string]string{"x": "z"},
	}
	_, err := db.Ensure(t.Context(), "s", want)
	require.ErrorIs(t, err, shardlog.ErrConflict)
	var mismatch *ConfigMismatchError
	require.ErrorAs(t, err, &mismatch)
	require.Equal(t, []FieldMismatch{
		{"Shards", 4, 3},
		{"Retention", 2 * time.Hour, time.Hour},
		{"RetentionBytes", int64(2 << 20), int64(1 << 20)},
		{"MaxRecordSize", 2000, 1000},
		{"Compression", Zstd, S2},
		{"Limits", Limits{ReadCalls: 1}, KinesisLimits()},
		{"DedupWindow", time.Second, time.Minute},
		{`Tags["new"]`, "c", nil},
		{`Tags["team"]`, "b", "a"},
		{`Attributes["x"]`, "z", "y"},
	}, mismatch.Fields)
	require.ErrorContains(t, err, `ensure: stream "s": the stream exists with another configuration: Shards is 3, asked for 4, `)
	require.ErrorContains(t, err, `Compression is s2, asked for zstd`)
	require.ErrorContains(t, err, `Tags["new"] is not set, asked for c`)
	require.Equal(t, before, snapshotOf(t, st), "nothing is changed")
	require.Equal(t, have.Attributes, st.Attributes())

	// Each field by itself, so that none is forgotten when one is added.
	md5 := create(t, db, "md5", Config{})
	_, err = db.Ensure(t.Context(), md5.Name(), Config{Hash: XXHash})
	require.ErrorContains(t, err, "Hash is md5, asked for xxhash")
}

func TestEnsureAcceptsAnyNumberOfShardsAfterAReshard(t *testing.T) {
	for name, reshard := range map[string]func(st *Stream) error{
		"split":   func(st *Stream) error { _, err := st.Split(t.Context(), shardID(0), shardlog.HashKey{}); return err },
		"merge":   func(st *Stream) error { _, err := st.Merge(t.Context(), shardID(0), shardID(1)); return err },
		"reshard": func(st *Stream) error { return st.Reshard(t.Context(), 7) },
		"and back": func(st *Stream) error {
			return errors.Join(st.Reshard(t.Context(), 7), st.Reshard(t.Context(), 2))
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := openMem(t)
			st := ensure(t, db, "s", Config{Shards: 2})
			_, err := db.Ensure(t.Context(), "s", Config{Shards: 7})
			require.ErrorIs(t, err, shardlog.ErrConflict)
			require.NoError(t, reshard(st))
			for _, n := range []int{2, 7, 100} {
				require.Same(t, st, ensure(t, db, "s", Config{Shards: n}))
			}
			_, err = db.Ensure(t.Context(), "s", Config{Shards: 2, Retention: time.Hour})
			require.ErrorContains(t, err, "Retention is 24h0m0s, asked for 1h0m0s")
		})
	}
}

// Forever is no number of nanoseconds to anybody who reads the error.
func TestEnsureNamesForever(t *testing.T) {
	db := openMem(t)
	ensure(t, db, "a", Config{})
	ensure(t, db, "b", Config{Retention: Forever})
	_, err := db.Ensure(t.Context(), "a", Config{Retention: Forever})
	require.ErrorContains(t, err, "Retention is 24h0m0s, asked for Forever")
	_, err = db.Ensure(t.Context(), "b", Config{Retention: DefaultRetention})
	require.ErrorContains(t, err, "Retention is Forever, asked for 24h0m0s")
}

// The first shards are forgotten some time after a reshard.
func TestEnsureAfterTheFirstShardsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open("", &Options{InMemory: true})
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		st := ensure(t, db, "s", Config{Shards: 2, Retention: time.Minute})
		require.NoError(t, st.Reshard(t.Context(), 3))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 3, st.Info().Shards, "only the open ones are left")
		require.Same(t, st, ensure(t, db, "s", Config{Shards: 2}))
	})
}

func TestEnsureRefusesFaultsOfTheConfiguration(t *testing.T) {
	db := openMem(t)
	create(t, db, "s", Config{})
	for _, name := range []string{"s", "new"} {
		_, err := db.Ensure(t.Context(), name, Config{Shards: -1, MaxRecordSize: -1})
		requireInvalid(t, err, "Config.Shards")
		require.ErrorContains(t, err, "MaxRecordSize")
	}
	_, err := db.Ensure(t.Context(), "a b", Config{})
	requireInvalid(t, err, "stream name")
	_, err = db.Stream(t.Context(), "new")
	require.ErrorIs(t, err, shardlog.ErrNotFound)
}

func TestEnsureByManyAtTheSameTime(t *testing.T) {
	for range 20 {
		db := openMem(t)
		got := make([]*Stream, 8)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				st, err := db.Ensure(t.Context(), "s", Config{Shards: 2})
				if err != nil {
					t.Error(err)
				}
				got[i] = st
			})
		}
		wg.Wait()
		for i := range got {
			require.Same(t, got[0], got[i])
		}
		all, err := db.Streams(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
	}
}

// TestEnsureAndDeleteByMany creates, deletes and writes under one name.
func TestEnsureAndDeleteByMany(t *testing.T) {
	db := openMem(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 50 {
				st, err := db.Ensure(t.Context(), "s", Config{Shards: 1 + i%2})
				if err != nil && !errors.Is(err, shardlog.ErrConflict) {
					t.Error(err)
				}
				if err == nil {
					_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: fmt.Sprint(k)})
				}
				if err != nil && !errors.Is(err, shardlog.ErrConflict) && !errors.Is(err, shardlog.ErrNotFound) {
					t.Error(err)
				}
				if err := db.Delete(t.Context(), "s"); err != nil && !errors.Is(err, shardlog.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ensure(t, db, "s", Config{})
}

func TestEnsureWaitsForADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStuck(t)
		defer func() { require.NoError(t, s.db.Close()) }()
		old := create(t, s.db, "s", Config{Shards: 2})
		// The deletion is stored and its records are not removed yet.
		commits, gate := 0, make(chan struct{})
		s.store.BeforeCommit(func(*kv.Batch) error {
			if commits++; commits > 1 {
				<-gate
			}
			return nil
		})
		deleted := make(chan error, 1)
		go func() { deleted <- s.db.Delete(context.Background(), "s") }()
		synctest.Wait()

		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		gaveUp := make(chan error, 1)
		go func() { _, err := s.db.Ensure(ctx, "s", Config{}); gaveUp <- err }()
		ensured := make(chan *Stream, 1)
		go func() { st, _ := s.db.Ensure(t.Context(), "s", Config{Shards: 5}); ensured <- st }()
		synctest.Wait()
		cancel(why)
		require.ErrorIs(t, <-gaveUp, why)
		require.Empty(t, ensured)
		s.store.BeforeCommit(nil)
		close(gate)
		require.NoError(t, <-deleted)
		st := <-ensured
		require.NotNil(t, st)
		require.NotSame(t, old, st)
		require.Equal(t, 5, st.Info().OpenShards)
	})
}
