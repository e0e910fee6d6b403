package stream

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
)

func TestCheckpointsConform(t *testing.T) {
	t.Run("in memory", func(t *testing.T) {
		checkpointtest.Run(t, func(t *testing.T) checkpoint.Store { return openMem(t).Checkpoints() })
	})
	t.Run("on disk", func(t *testing.T) {
		checkpointtest.Run(t, func(t *testing.T) checkpoint.Store { return openDB(t, t.TempDir(), smallOptions()).Checkpoints() })
	})
}

func TestCheckpointsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(dir, smallOptions())
	require.NoError(t, err)
	ctx := t.Context()
	k := func(shard string) checkpoint.Key { return checkpoint.Key{Group: "g", Stream: "s", Shard: shard} }
	full := checkpoint.Lease{
		Key: k("full"), Epoch: 3, Owner: "o", Next: "n", Beat: 9, Checkpoint: shardlog.AfterSub(shardlog.NewSequenceNumber(1, 2, 3, 4), 5),
		PreparedState: bytes.Repeat([]byte("x"), checkpoint.MaxPreparedState), Parents: []string{"p"}, Children: []string{"c1", "c2"},
		HashStart: shardlog.NewHashKey(0, 0), HashEnd: shardlog.MaxHashKey, Switches: 4, Ended: true,
	}
	full, err = db.Checkpoints().Create(ctx, full)
	require.NoError(t, err)
	gone, err := db.Checkpoints().Create(ctx, checkpoint.Lease{Key: k("gone")})
	require.NoError(t, err)
	gone, err = db.Checkpoints().Update(ctx, gone)
	require.NoError(t, err)
	require.NoError(t, db.Checkpoints().Delete(ctx, gone))
	require.NoError(t, db.Close())

	db = openDB(t, dir, smallOptions())
	rows, err := db.Checkpoints().List(ctx, "g", "s")
	require.NoError(t, err)
	require.Equal(t, []checkpoint.Lease{full}, rows)
	again, err := db.Checkpoints().Create(ctx, checkpoint.Lease{Key: k("gone")})
	require.NoError(t, err)
	require.Greater(t, again.Version, gone.Version, "a version is not used again")
	_, err = db.Checkpoints().Update(ctx, gone)
	require.ErrorIs(t, err, shardlog.ErrConflict)
}

// A row that is remembered as it was written is not believed when the store has
// another one, which a transaction may have written; and what is remembered is bounded.
func TestRowsThatOthersWrite(t *testing.T) {
	db := openMem(t)
	ctx := t.Context()
	store := db.Checkpoints().(checkpoint.TxStore[*Tx])
	l, err := store.Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "0"}, Parents: []string{"p"}})
	require.NoError(t, err)
	stale, err := store.Update(ctx, l)
	require.NoError(t, err)
	tx := db.Begin()
	l, err = store.UpdateTx(ctx, tx, stale)
	require.NoError(t, err)
	_, err = tx.Commit(ctx)
	require.NoError(t, err)
	_, err = store.Update(ctx, stale)
	require.ErrorIs(t, err, shardlog.ErrConflict)
	l.Owner = "w"
	l, err = store.Update(ctx, l)
	require.NoError(t, err)
	l.Parents[0] = "another" // the lease is the caller's own
	got, err := store.Get(ctx, l.Key)
	require.NoError(t, err)
	require.Equal(t, []string{"p"}, got.Parents)
	require.NoError(t, store.Delete(ctx, got))
	_, err = store.Update(ctx, got)
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	again, err := store.Create(ctx, checkpoint.Lease{Key: l.Key})
	require.NoError(t, err)
	require.Greater(t, again.Version, got.Version)

	for i := range maxWrittenRows + 1 {
		db.written.note(fmt.Append(nil, i), []byte("v"), &l)
	}
	require.LessOrEqual(t, len(db.written.rows), maxWrittenRows)
	db.written.rows = nil
	for i := range maxWrittenRows {
		db.written.note(fmt.Append(nil, i), []byte("v"), &l)
	}
	db.written.note(fmt.Append(nil, maxWrittenRows-1), []byte("w"), &l)
	require.Len(t, db.written.rows, maxWrittenRows, "a row that is known needs no room")
	db.written.note([]byte("large"), make([]byte, maxWrittenBytes+1), &l)
	require.NotContains(t, db.written.rows, "large")
}

// Many groups that checkpoint large states at the same time share
// transactions; no number of them is too many for one.
func TestManyLargeCheckpointsAtTheSameTime(t *testing.T) {
	for _, size := range []int{700, 5000, 9000} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			db := openDB(t, t.TempDir(), smallOptions())
			var wg sync.WaitGroup
			for i := range 300 {
				wg.Go(func() {
					_, err := db.Checkpoints().Create(t.Context(), checkpoint.Lease{
						Key: checkpoint.Key{Group: "g", Stream: "s", Shard: fmt.Sprint(i)}, PreparedState: make([]byte, size)})
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			rows, err := db.Checkpoints().List(t.Context(), "g", "s")
			require.NoError(t, err)
			require.Len(t, rows, 300)
		})
	}
}
