package stream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
	"github.com/shardlog/shardlog/internal/once"
)

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
// another holds across a commit that is stuck, ends its context, and checks
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

// TestReadingTheNumbersOfAProducerIsNotWaitedForLonger makes the read of an
// identity's numbers hang: another request of that producer waits for it no
// longer than its context lasts, and the janitor and other producers do not.
func TestReadingTheNumbersOfAProducerIsNotWaitedForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStuck(t)
		st := create(t, s.db, "s", Config{Retention: Forever})
		epoch := openProducer(t, st, "p")
		first := request(t, st, numberedRequest("p", epoch, 0, 1))
		other := openProducer(t, st, "other")
		require.NoError(t, s.db.Close())
		o := s.db.opts
		var err error
		s.db, err = openOn(s.store, o) // the numbers are read when they are needed
		require.NoError(t, err)
		defer func() { require.NoError(t, s.db.Close()) }()
		st = theStream(t, s.db)

		gate := make(chan struct{})
		stuckKey := string(once.IdentityKey(st.id, "p", 0))
		s.store.OnRead(func(_ kvtest.Op, key []byte) {
			if string(key) == stuckKey {
				<-gate
			}
		})
		reader := make(chan []shardlog.PutResult, 1)
		go func() {
			res, _ := st.PutRequest(context.Background(), numberedRequest("p", epoch, 0, 1))
			reader <- res
		}()
		synctest.Wait()
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(context.Background())
		done := make(chan error, 1)
		go func() { _, err := st.PutRequest(ctx, numberedRequest("p", epoch, 0, 2)); done <- err }()
		synctest.Wait()
		require.Empty(t, done)
		cancel(why)
		require.ErrorIs(t, <-done, why)
		request(t, st, numberedRequest("other", other, 0, 1))
		close(gate)
		requireDuplicates(t, first, <-reader)
		require.False(t, request(t, st, numberedRequest("p", epoch, 0, 2))[0].Duplicate, "nothing was left behind")
	})
}
