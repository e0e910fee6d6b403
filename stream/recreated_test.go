package stream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// recreate deletes the stream and creates one of its name.
func recreate(t *testing.T, db *DB, cfg Config) *Stream {
	t.Helper()
	require.NoError(t, db.Delete(t.Context(), "s"))
	return create(t, db, "s", cfg)
}

func streamID(t *testing.T, st *Stream) string {
	t.Helper()
	id, err := st.StreamID(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, id)
	require.Equal(t, id, st.Info().ID)
	return id
}

// The ID goes with the stream: through restarts, changes of its configuration and
// backups, but not to another one of its name, number and time.
func TestStreamID(t *testing.T) {
	everyStore(t, func(t *testing.T, reopen func() *DB) {
		db := reopen()
		st := create(t, db, "s", Config{})
		id := streamID(t, st)
		require.NoError(t, st.SetTags(t.Context(), map[string]string{"a": "b"}))
		var backup strings.Builder
		require.NoError(t, db.Backup(t.Context(), &backup))
		db = reopen()
		require.Equal(t, id, streamID(t, theStream(t, db)))
		second := streamID(t, recreate(t, db, Config{}))
		require.NotEqual(t, id, second)
		db = reopen()
		require.Equal(t, second, streamID(t, theStream(t, db)))

		dir := t.TempDir()
		require.NoError(t, Restore(t.Context(), dir, strings.NewReader(backup.String()), smallOptions()))
		restored := openDB(t, dir, smallOptions())
		require.Equal(t, id, streamID(t, theStream(t, restored)))
		require.NotEqual(t, second, streamID(t, recreate(t, restored, Config{})))
	})
	synctest.Test(t, func(t *testing.T) { // all at one instant
		seen := map[string]bool{}
		for range 3 {
			db, err := Open("", &Options{InMemory: true})
			require.NoError(t, err)
			seen[streamID(t, create(t, db, "s", Config{}))] = true
			seen[streamID(t, recreate(t, db, Config{}))] = true
			require.NoError(t, db.Close())
		}
		require.Len(t, seen, 6)
	})
}

// A stream that was created before there were IDs has one as well.
func TestStreamIDOfAnEarlierVersion(t *testing.T) {
	db := openMem(t)
	ids := map[string]bool{}
	for range 2 {
		st := create(t, db, "s", Config{})
		meta := *st.meta.Load()
		meta.ID = ""
		st.meta.Store(&meta)
		ids[streamID(t, st)] = true
		require.NoError(t, db.Delete(t.Context(), "s"))
	}
	require.Len(t, ids, 2)
}

// Numbers are not given out again either, if the clock stands still meanwhile.
func TestNumbersOfStreamsOfOneInstant(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var db *DB
			if inMemory {
				db = openMem(t)
			} else {
				db = newSurviving().open(t, nil)
			}
			defer func() { require.NoError(t, db.Close()) }()
			st := create(t, db, "s", Config{Shards: 2})
			var last shardlog.SequenceNumber
			for range 3 {
				for range 20 {
					r := put(t, st, "a", "x")
					require.Positive(t, r.Sequence.Compare(last))
					last = r.Sequence
				}
				st = recreate(t, db, Config{Shards: 2})
				// A position of the earlier stream misses nothing of this one.
				id := last
				r := put(t, st, "a", "first")
				p, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: r.ShardID, From: shardlog.After(id)})
				require.NoError(t, err)
				require.Len(t, p.Records, 1)
				last = r.Sequence
			}
		})
	}
}

// What a stream knows of records that are stored once is not known of one that
// is created under its name: dedup IDs, and numbers of producers, who have to
// open their identity again.
func TestWhatIsStoredOnceInARecreatedStream(t *testing.T) {
	everyStore(t, func(t *testing.T, reopen func() *DB) {
		cfg := Config{DedupWindow: time.Hour}
		db := reopen()
		st := create(t, db, "s", cfg)
		rec := shardlog.Record{PartitionKey: "k", DedupID: "id"}
		_, err := st.Put(t.Context(), rec)
		require.NoError(t, err)
		epoch := openProducer(t, st, "p")
		sent := numberedRequest("p", epoch, 0, 0, 1, 2)
		request(t, st, sent)
		st = recreate(t, db, cfg)
		for round := range 2 {
			_, err = st.PutRequest(t.Context(), sent)
			require.ErrorIs(t, err, shardlog.ErrNotFound)
			r, err := st.Put(t.Context(), rec)
			require.NoError(t, err)
			require.Equal(t, round > 0, r.Duplicate)
			db = reopen()
			st = theStream(t, db)
		}
		// Another producer's numbers are none of the earlier stream's.
		next := openProducer(t, st, "p")
		require.NotEqual(t, epoch, next)
		request(t, st, numberedRequest("p", next, 0, 0, 1, 2))
		res, err := st.PutRequest(t.Context(), sent)
		require.True(t, err != nil || res[0].Err != nil, "%+v", res)
		for _, r := range request(t, st, numberedRequest("p", next, 0, 3)) {
			require.False(t, r.Duplicate)
		}
	})
}

// A transaction is of the streams that it was begun with.
func TestTransactionOfARecreatedStream(t *testing.T) {
	db := openMem(t)
	st, other := create(t, db, "s", Config{}), create(t, db, "other", Config{})
	row := checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}}
	tx := db.Begin()
	tx.Put(other, shardlog.Record{PartitionKey: "k"})
	tx.Put(st, shardlog.Record{PartitionKey: "k"})
	tx.Checkpoint(row)
	next := recreate(t, db, Config{})
	_, err := tx.Commit(t.Context())
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	require.Empty(t, readStream(t, next))
	require.Empty(t, readStream(t, other))
	_, err = db.Checkpoints().Get(t.Context(), row.Key)
	require.ErrorIs(t, err, shardlog.ErrNotFound)
}

// Reads that wait when their stream is deleted end, and see nothing of the next.
func TestReadsThatWaitWhileTheStreamIsRecreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		defer func() { require.NoError(t, db.Close()) }()
		st := create(t, db, "s", Config{})
		s, err := st.Shard(shardID(0))
		require.NoError(t, err)
		errs := make(chan error, 3)
		ctx := context.WithoutCancel(t.Context())
		go func() {
			p, err := st.Read(ctx, shardlog.ReadRequest{ShardID: shardID(0), Wait: time.Hour})
			errs <- fmt.Errorf("%d records: %w", len(p.Records), err)
		}()
		go func() {
			for r, err := range s.Tail(ctx, shardlog.Latest()) {
				errs <- fmt.Errorf("%v: %w", r.Sequence, err)
			}
		}()
		synctest.Wait()
		put(t, recreate(t, db, Config{}), "k", "x")
		for range 2 {
			require.ErrorIs(t, <-errs, shardlog.ErrNotFound)
		}
	})
}
