package badgercheckpoint_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/badgercheckpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

func open(t *testing.T) (*badger.DB, *badgercheckpoint.Store) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil).WithNumCompactors(2).WithMemTableSize(8 << 20))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s, err := badgercheckpoint.New(db, nil)
	require.NoError(t, err)
	return db, s
}

func TestConforms(t *testing.T) {
	checkpointtest.Run(t, func(t *testing.T) checkpoint.Store {
		_, s := open(t)
		return s
	})
}

func TestTransactionsConform(t *testing.T) {
	checkpointtest.RunTx(t, func(t *testing.T) checkpointtest.Transactional[*badger.Txn] {
		db, s := open(t)
		return checkpointtest.Transactional[*badger.Txn]{
			Store:    s,
			Begin:    func(context.Context) (*badger.Txn, error) { return db.NewTransaction(true), nil },
			Commit:   func(_ context.Context, tx *badger.Txn) error { return tx.Commit() },
			RollBack: (*badger.Txn).Discard,
		}
	})
}

func TestOutlastsTheProcess(t *testing.T) {
	checkpointtest.RunReopen(t, func(t *testing.T) (checkpoint.Store, func() checkpoint.Store) {
		dir := t.TempDir()
		var db *badger.DB
		open := func() checkpoint.Store {
			var err error
			db, err = badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithMemTableSize(8 << 20).WithValueLogFileSize(8 << 20))
			require.NoError(t, err)
			s, err := badgercheckpoint.New(db, nil)
			require.NoError(t, err)
			return s
		}
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		return open(), func() checkpoint.Store {
			require.NoError(t, db.Close())
			return open()
		}
	})
}

func TestUpdateInATransaction(t *testing.T) {
	ctx := t.Context()
	db, s := open(t)
	row, err := s.Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}})
	require.NoError(t, err)
	next := row.Clone()
	next.Checkpoint = shardlog.After(shardlog.NewSequenceNumber(1, 2, 3, 4))

	tx := db.NewTransaction(true)
	require.NoError(t, tx.Set([]byte("mine"), nil))
	_, err = s.UpdateTx(ctx, tx, next)
	require.NoError(t, err)
	tx.Discard()
	got, err := s.Get(ctx, row.Key)
	require.NoError(t, err)
	assert.Equal(t, row, got, "a rollback leaves no trace")

	// The row changes before the commit: nothing is written.
	tx = db.NewTransaction(true)
	require.NoError(t, tx.Set([]byte("mine"), nil))
	_, err = s.UpdateTx(ctx, tx, next)
	require.NoError(t, err)
	taken := row.Clone()
	taken.Owner = "other"
	taken, err = s.Update(ctx, taken)
	require.NoError(t, err)
	require.ErrorIs(t, tx.Commit(), badger.ErrConflict)
	require.ErrorIs(t, db.View(func(tx *badger.Txn) error {
		_, err := tx.Get([]byte("mine"))
		return err
	}), badger.ErrKeyNotFound)

	_, err = s.UpdateTx(ctx, db.NewTransaction(true), next)
	require.ErrorIs(t, err, shardlog.ErrConflict)
	next.Version = taken.Version
	tx = db.NewTransaction(true)
	told, err := s.UpdateTx(ctx, tx, next)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	got, err = s.Get(ctx, row.Key)
	require.NoError(t, err)
	assert.Equal(t, told, got)
}

func TestInvalid(t *testing.T) {
	_, err := badgercheckpoint.New(nil, nil)
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil).WithDetectConflicts(false))
	require.NoError(t, err)
	_, err = badgercheckpoint.New(db, nil)
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	require.NoError(t, db.Close())
	good, s := open(t)
	_, err = badgercheckpoint.New(good, &badgercheckpoint.Options{Prefix: string(make([]byte, 1001))})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	_, err = s.UpdateTx(t.Context(), nil, checkpoint.Lease{})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
}

// Counts and checkpoints are one transaction: a handler that fails half way,
// and one whose commit is lost, change nothing.
func TestCountsExactlyOnce(t *testing.T) {
	ctx := t.Context()
	kv, store := open(t)
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	st, err := db.Create(ctx, "s", stream.Config{Shards: 2})
	require.NoError(t, err)
	const n = 1000
	for i := range n {
		_, err := st.Put(ctx, shardlog.Record{PartitionKey: fmt.Sprint(i), Data: []byte("x")})
		require.NoError(t, err)
	}
	calls := 0
	c, err := consumer.New(st, &consumer.Options{Store: store, MaxBatchRecords: 50, MaxLeases: 1, Retry: consumer.Retry{Initial: 1}})
	require.NoError(t, err)
	total := func() (sum uint64) {
		require.NoError(t, kv.View(func(tx *badger.Txn) error { sum = count(tx); return nil }))
		return sum
	}
	ctx, cancel := context.WithCancel(ctx)
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		calls++
		tx := kv.NewTransaction(true)
		defer tx.Discard()
		sum := count(tx) + uint64(len(b.Records))
		if err := tx.Set([]byte("count"), binary.BigEndian.AppendUint64(nil, sum)); err != nil {
			return err
		}
		if err := consumer.CheckpointIn(ctx, b, tx, shardlog.After(b.Records[len(b.Records)-1].Sequence)); err != nil {
			return err
		}
		switch calls % 4 {
		case 1:
			return errors.New("fails before the commit")
		case 2:
			return nil // forgets the commit
		case 3:
			_ = tx.Commit()
			return errors.New("fails after the commit")
		}
		if b.BehindRecords == 0 {
			defer c.Shutdown(ctx)
		}
		return tx.Commit()
	}))
	cancel()
	require.NoError(t, err)
	read := c.Stats().RecordsProcessed
	assert.Positive(t, read)
	assert.Equal(t, read, total())
}

func count(tx *badger.Txn) (n uint64) {
	item, err := tx.Get([]byte("count"))
	if err != nil {
		return 0
	}
	_ = item.Value(func(v []byte) error {
		n = binary.BigEndian.Uint64(v)
		return nil
	})
	return n
}
