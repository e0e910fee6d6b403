package stream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func TestCtxRWMutexExcludesWriters(t *testing.T) {
	l := newCtxRWMutex()
	var readers, writers atomic.Int32
	var wg sync.WaitGroup
	rng, _ := newRand(t)
	for range 8 {
		seed := rng.Int63()
		wg.Go(func() {
			for i := range int64(2000) {
				// Some give up: sometimes before, sometimes while they wait.
				ctx, cancel := context.WithCancel(context.Background())
				if (seed+i)%5 == 0 {
					go cancel()
				}
				if (seed+i)%7 == 0 {
					if l.Lock(ctx) == nil {
						if writers.Add(1) != 1 || readers.Load() != 0 {
							t.Error("a writer is not alone")
						}
						writers.Add(-1)
						l.Unlock()
					}
				} else if l.RLock(ctx) == nil {
					readers.Add(1)
					if writers.Load() != 0 {
						t.Error("a reader meets a writer")
					}
					readers.Add(-1)
					l.RUnlock()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	require.Zero(t, l.state.Load())
	require.NoError(t, l.Lock(t.Context()), "everybody has left")
}

func TestCtxRWMutexWaitsEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		why := errors.New("why")
		l := newCtxRWMutex()
		require.NoError(t, l.RLock(bg))

		// A writer that waits for a reader, and those that wait for it.
		ctx, cancel := context.WithCancelCause(bg)
		errs := make(chan error, 3)
		go func() { errs <- l.Lock(ctx) }()
		synctest.Wait()
		go func() { errs <- l.Lock(ctx) }()
		go func() { errs <- l.RLock(ctx) }()
		synctest.Wait()
		require.Empty(t, errs, "a waiting writer keeps new readers out")
		cancel(why)
		for range 3 {
			require.ErrorIs(t, <-errs, why)
		}
		require.NoError(t, l.RLock(bg), "a writer that gave up is in nobody's way")
		l.RUnlock()
		l.RUnlock()
		require.NoError(t, l.Lock(bg))

		// Waiting readers enter before the next writer.
		var order []string
		var mu sync.Mutex
		note := func(s string) { mu.Lock(); order = append(order, s); mu.Unlock() }
		go func() { _ = l.Lock(bg); note("writer"); l.Unlock() }()
		synctest.Wait()
		release := make(chan struct{})
		for range 2 {
			go func() { _ = l.RLock(bg); note("reader"); <-release; l.RUnlock() }()
		}
		synctest.Wait()
		l.Unlock()
		synctest.Wait()
		close(release)
		synctest.Wait()
		require.Equal(t, []string{"reader", "reader", "writer"}, order)
	})
}

// stuck is a database whose commits wait until they are let through.
type stuck struct {
	db    *DB
	store *kvtest.Faulty
	gate  chan struct{}
}

func openStuck(t *testing.T) *stuck {
	s := &stuck{store: kvtest.New(kv.NewMemory())}
	o, err := (&Options{InMemory: true}).withDefaults("")
	require.NoError(t, err)
	s.db, err = openOn(s.store, o)
	require.NoError(t, err)
	return s
}

func (s *stuck) stick() {
	gate := make(chan struct{})
	s.gate = gate
	s.store.BeforeCommit(func(*kv.Batch) error { <-gate; return nil })
}

func (s *stuck) release() {
	s.store.BeforeCommit(nil)
	close(s.gate)
}

// callsThatLock are those that wait for a stream's locks.
func callsThatLock(db *DB, st *Stream) map[string]func(context.Context) error {
	rec := shardlog.Record{PartitionKey: "k", Data: []byte("late")}
	return map[string]func(context.Context) error{
		"Put":        func(ctx context.Context) error { _, err := st.Put(ctx, rec); return err },
		"PutRecords": func(ctx context.Context) error { _, err := st.PutRecords(ctx, []shardlog.Record{rec}); return err },
		"PutIf": func(ctx context.Context) error {
			_, err := st.PutIf(ctx, shardID(0), shardlog.SequenceNumber{}, nil)
			return err
		},
		"PutRequest": func(ctx context.Context) error {
			_, err := st.PutRequest(ctx, &shardlog.PutRequest{Records: []shardlog.Record{rec}})
			return err
		},
		"OpenProducer": func(ctx context.Context) error { _, err := st.OpenProducer(ctx, "p"); return err },
		"Commit": func(ctx context.Context) error {
			tx := db.Begin()
			tx.Put(st, rec)
			tx.Checkpoint(checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}})
			_, err := tx.Commit(ctx)
			return err
		},
		"Read": func(ctx context.Context) error {
			_, err := st.Read(ctx, shardlog.ReadRequest{ShardID: shardID(0)})
			return err
		},
		"Records": func(ctx context.Context) error {
			for _, err := range st.Records(ctx, shardID(0), shardlog.TrimHorizon()) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"Split":            func(ctx context.Context) error { _, err := st.Split(ctx, shardID(1), shardlog.HashKey{}); return err },
		"Merge":            func(ctx context.Context) error { _, err := st.Merge(ctx, shardID(2), shardID(3)); return err },
		"Reshard":          func(ctx context.Context) error { return st.Reshard(ctx, 9) },
		"SetRetention":     func(ctx context.Context) error { return st.SetRetention(ctx, Forever, 0) },
		"SetLimits":        func(ctx context.Context) error { return st.SetLimits(ctx, KinesisLimits()) },
		"SetDedupWindow":   func(ctx context.Context) error { return st.SetDedupWindow(ctx, MaxDedupWindow) },
		"SetMaxRecordSize": func(ctx context.Context) error { return st.SetMaxRecordSize(ctx, 77) },
		"SetTags":          func(ctx context.Context) error { return st.SetTags(ctx, map[string]string{"late": "x"}) },
		"RemoveTags":       func(ctx context.Context) error { return st.RemoveTags(ctx, "a") },
		"SetAttributes":    func(ctx context.Context) error { return st.SetAttributes(ctx, map[string]string{"late": "x"}) },
		"Delete":           func(ctx context.Context) error { return db.Delete(ctx, "s") },
	}
}

// TestWaitsForLocksEndWithTheContext makes each call wait for a lock that
// another holds across a commit that is stuck, ends its context, and looks
// whether it returns, and whether it changed anything then or later.
func TestWaitsForLocksEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		s := openStuck(t)
		db := s.db
		defer func() { require.NoError(t, db.Close()) }()
		st := create(t, db, "s", Config{Shards: 4, Tags: map[string]string{"a": "b"}})
		_, err := st.Split(bg, shardID(0), shardlog.HashKey{}) // so that a shard has an end to be read
		require.NoError(t, err)
		before := st.Info()

		// One who changes the configuration has config, a reshard has shape.
		s.stick()
		why := errors.New("why")
		holders := make(chan error, 2)
		go func() { holders <- st.SetTags(bg, map[string]string{"holder": "x"}) }()
		synctest.Wait()
		go func() { _, err := st.Split(bg, shardID(1), shardlog.HashKey{}); holders <- err }()
		synctest.Wait()
		for name, call := range callsThatLock(db, st) {
			ctx, cancel := context.WithCancelCause(bg)
			done := make(chan error, 1)
			go func() { done <- call(ctx) }()
			synctest.Wait()
			require.Empty(t, done, "%s waits", name)
			cancel(why)
			synctest.Wait()
			require.Len(t, done, 1, "%s still waits", name)
			err := <-done
			require.ErrorIs(t, err, why, name)
			require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome, name)
		}
		require.Empty(t, holders)
		s.release()
		require.NoError(t, <-holders)
		require.NoError(t, <-holders)
		synctest.Wait()

		require.NoError(t, st.RemoveTags(bg, "holder"))
		info := st.Info()
		require.Equal(t, map[string]string{"a": "b"}, info.Tags)
		require.Equal(t, 6, info.OpenShards, "both splits, and nothing else")
		require.Equal(t, before.Retention, info.Retention)
		require.Equal(t, before.Limits, info.Limits)
		require.Equal(t, before.MaxRecordSize, info.MaxRecordSize)
		require.Zero(t, info.DedupWindow)
		require.Empty(t, st.Attributes())
		require.Zero(t, st.Stats().Producers)
		shards, err := st.Shards(bg)
		require.NoError(t, err)
		for _, sh := range shards {
			require.Empty(t, readAll(t, st, sh.ID))
		}
		rows, err := db.Checkpoints().List(bg, "g", "")
		require.NoError(t, err)
		require.Empty(t, rows)
	})
}

// TestDeleteAfterItsMarkSaysSo ends the context when the deletion is stored and
// the records are not removed yet.
func TestDeleteAfterItsMarkSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStuck(t)
		defer func() { require.NoError(t, s.db.Close()) }()
		st := create(t, s.db, "s", Config{})
		put(t, st, "k", "x")
		ctx, cancel := context.WithCancel(context.Background())
		commits := 0
		gate := make(chan struct{})
		s.store.BeforeCommit(func(*kv.Batch) error {
			if commits++; commits > 1 {
				<-gate
			}
			return nil
		})
		done := make(chan error, 1)
		go func() { done <- s.db.Delete(ctx, "s") }()
		synctest.Wait()
		cancel()
		err := <-done
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "the stream is deleted")
		_, err = s.db.Stream(t.Context(), "s")
		require.ErrorIs(t, err, shardlog.ErrNotFound)
		s.store.BeforeCommit(nil)
		close(gate)
		create(t, s.db, "s", Config{})
	})
}
