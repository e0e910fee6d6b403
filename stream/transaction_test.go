package stream

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

var txKey = checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}

func keyed(key, data string) shardlog.Record {
	return shardlog.Record{PartitionKey: key, Data: []byte(data)}
}

func commit(t testing.TB, tx *Tx) TxResult {
	t.Helper()
	res, err := tx.Commit(context.Background())
	require.NoError(t, err)
	return res
}

func TestATransactionOverShardsStreamsAndCheckpoints(t *testing.T) {
	everyStore(t, func(t *testing.T, reopen func() *DB) {
		db := reopen()
		a := create(t, db, "s", Config{Shards: 4, Retention: Forever, DedupWindow: time.Hour})
		b := create(t, db, "b", Config{Shards: 3, Retention: Forever})
		row, err := db.Checkpoints().Create(t.Context(), checkpoint.Lease{Key: txKey, Beat: 1})
		require.NoError(t, err)
		putID(t, a, "old", "old")

		tx := db.Begin()
		for i := range 10 {
			tx.Put(a, keyed(fmt.Sprint(i), fmt.Sprint("a", i)))
			tx.Put(b, keyed(fmt.Sprint(i), fmt.Sprint("b", i)))
		}
		tx.Put(a, withID("old", "copy"), withID("new", "new"), withID("new", "another"))
		row.Beat = 2
		tx.Checkpoint(row)
		made := checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "made"}}
		tx.Checkpoint(made)
		require.Empty(t, readStream(t, b), "nothing before Commit")
		res := commit(t, tx)
		require.Len(t, res.Records, 23)
		require.Equal(t, []bool{true, false, true}, duplicates(res.Records[20:]))
		require.Equal(t, res.Records[21].Sequence, res.Records[22].Sequence)
		require.Len(t, res.Checkpoints, 2)
		require.Greater(t, res.Checkpoints[0].Version, row.Version)
		require.Equal(t, uint64(2), res.Checkpoints[0].Beat)
		_, err = tx.Commit(t.Context())
		requireInvalid(t, err, "Tx")

		db = reopen()
		a = theStream(t, db)
		b, err = db.Stream(t.Context(), "b")
		require.NoError(t, err)
		want := []string{"old", "new"}
		var wantB []string
		for i := range 10 {
			want, wantB = append(want, fmt.Sprint("a", i)), append(wantB, fmt.Sprint("b", i))
		}
		requireOnce(t, a, want...)
		requireOnce(t, b, wantB...)
		for _, l := range res.Checkpoints {
			got, err := db.Checkpoints().Get(t.Context(), l.Key)
			require.NoError(t, err)
			require.Equal(t, l, got)
		}
		require.True(t, putID(t, a, "new", "x").Duplicate)
		// Each result is that of its record.
		at := map[shardlog.PutResult]string{}
		for _, st := range []*Stream{a, b} {
			for _, s := range shards(t, st) {
				for _, r := range readAll(t, st, s.ID) {
					at[shardlog.PutResult{ShardID: s.ID, Sequence: r.Sequence}] = string(r.Data)
				}
			}
		}
		for i := range 10 {
			require.Equal(t, fmt.Sprint("a", i), at[res.Records[2*i]])
			require.Equal(t, fmt.Sprint("b", i), at[res.Records[2*i+1]])
		}
		// An empty one is nothing, and one of rows alone is allowed.
		require.Empty(t, commit(t, db.Begin()).Records)
		tx = db.Begin()
		tx.Checkpoint(res.Checkpoints[1])
		require.Greater(t, commit(t, tx).Checkpoints[0].Version, res.Checkpoints[1].Version)
	})
}

// A conflict leaves nothing behind, whatever it is about.
func TestATransactionThatConflicts(t *testing.T) {
	db := openMem(t)
	st := create(t, db, "s", Config{Shards: 2, DedupWindow: time.Hour})
	row, err := db.Checkpoints().Create(t.Context(), checkpoint.Lease{Key: txKey, Beat: 1})
	require.NoError(t, err)
	other := checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "other"}}
	stale := row
	stale.Version += 3
	again := row
	again.Version = 0
	missing := other
	missing.Version = 1
	for want, l := range map[error]checkpoint.Lease{shardlog.ErrConflict: stale, shardlog.ErrExists: again, shardlog.ErrNotFound: missing} {
		tx := db.Begin()
		tx.Put(st, withID("id", "lost"))
		if l.Key != other.Key {
			tx.Checkpoint(other)
		}
		tx.Checkpoint(l)
		_, err := tx.Commit(t.Context())
		require.ErrorIs(t, err, want)
		var e *shardlog.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "commit", e.Op)
	}
	require.Empty(t, readStream(t, st))
	_, err = db.Checkpoints().Get(t.Context(), other.Key)
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	got, err := db.Checkpoints().Get(t.Context(), txKey)
	require.NoError(t, err)
	require.Equal(t, row, got)
	require.False(t, putID(t, st, "id", "id").Duplicate)
	require.Empty(t, db.rows.held)
}

func TestTransactionsThatAreRefused(t *testing.T) {
	db, elsewhere := openMem(t), openMem(t)
	st := create(t, db, "s", Config{MaxRecordSize: shardlog.MaxRecordSize})
	foreign := create(t, elsewhere, "s", Config{})
	row := func(i int, state int) checkpoint.Lease {
		return checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: fmt.Sprint(i)}, PreparedState: make([]byte, state)}
	}
	for name, c := range map[string]struct {
		field string
		fill  func(tx *Tx)
	}{
		"another database": {"stream", func(tx *Tx) { tx.Put(foreign, keyed("k", "x")) }},
		"no stream":        {"stream", func(tx *Tx) { tx.Put(nil, keyed("k", "x")) }},
		"bad record":       {"records[1].PartitionKey", func(tx *Tx) { tx.Put(st, keyed("k", "x"), keyed("", "x")) }},
		"no window":        {"records[0].DedupID", func(tx *Tx) { tx.Put(st, withID("a", "x")) }},
		"many bytes": {"Tx", func(tx *Tx) {
			tx.Put(st, keyed("k", strings.Repeat("x", 9<<20)), keyed("k", strings.Repeat("x", 9<<20)))
		}},
		"many records":      {"Tx", func(tx *Tx) { tx.Put(st, make([]shardlog.Record, MaxTxRecords+1)...) }},
		"the same row":      {"Tx", func(tx *Tx) { tx.Checkpoint(row(1, 0)); tx.Checkpoint(row(1, 0)) }},
		"bad row":           {"Shard", func(tx *Tx) { tx.Checkpoint(checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s"}}) }},
		"many rows":         {"Tx", func(tx *Tx) { manyRows(tx, MaxTxRows+1, row, 0) }},
		"many bytes of row": {"Tx", func(tx *Tx) { manyRows(tx, 12, row, 4<<10) }},
	} {
		t.Run(name, func(t *testing.T) {
			tx := db.Begin()
			c.fill(tx)
			_, err := tx.Commit(t.Context())
			requireInvalid(t, err, c.field)
		})
	}
	require.Empty(t, readStream(t, st))
	rows, err := db.Checkpoints().List(t.Context(), "g", "")
	require.NoError(t, err)
	require.Empty(t, rows)
	require.Empty(t, db.rows.held)

	// At the limits it is stored.
	tx := db.Begin()
	manyRows(tx, MaxTxRows, row, 0)
	commit(t, tx)

	require.NoError(t, db.Delete(t.Context(), "s"))
	tx = db.Begin()
	tx.Put(st, keyed("k", "x"))
	_, err = tx.Commit(t.Context())
	require.ErrorIs(t, err, shardlog.ErrNotFound)
}

func manyRows(tx *Tx, n int, row func(i, state int) checkpoint.Lease, state int) {
	for i := range n {
		tx.Checkpoint(row(i, state))
	}
}

// As large as they may be, transactions are still one of the store's.
func TestLargeTransactions(t *testing.T) {
	dir := t.TempDir()
	o := smallOptions()
	o.ValueLogFileBytes = 2 << 20
	db := openDB(t, dir, o)
	st := create(t, db, "s", Config{Shards: 900, Retention: Forever})
	many := create(t, db, "many", Config{Shards: 2500, Retention: Forever})
	tx := db.Begin()
	n := 0
	for tx.bytes < MaxTxBytes-10_000 {
		tx.Put(st, keyed(fmt.Sprint(n), strings.Repeat("x", 9000)))
		n++
	}
	for i := range MaxTxRows {
		tx.Checkpoint(checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: fmt.Sprint(i)}, PreparedState: make([]byte, 100)})
	}
	commit(t, tx)
	tx = db.Begin()
	for i := range MaxTxRecords {
		tx.Put(st, keyed(fmt.Sprint(i), ""))
	}
	commit(t, tx)
	tx = db.Begin() // too little for a block in each shard, and much together
	small := 0
	for tx.bytes < MaxTxBytes-10_000 {
		infos := shards(t, many)
		for i := 0; i < len(infos) && tx.bytes < MaxTxBytes-10_000; i++ {
			tx.Put(many, shardlog.Record{PartitionKey: "k", ExplicitHashKey: infos[i].HashStart, Data: make([]byte, 7000)})
			small++
		}
	}
	commit(t, tx)
	require.NoError(t, db.Close())
	db = openDB(t, dir, o)
	require.Len(t, readStream(t, theStream(t, db)), n+MaxTxRecords)
	many, err := db.Stream(t.Context(), "many")
	require.NoError(t, err)
	require.Len(t, readStream(t, many), small)
	rows, err := db.Checkpoints().List(t.Context(), "g", "s")
	require.NoError(t, err)
	require.Len(t, rows, MaxTxRows)
}

func TestRateLimitsOfATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		free := create(t, db, "free", Config{})
		st := create(t, db, "s", Config{Shards: 2, Limits: Limits{WriteRecords: 10}})
		low, high := shardlog.NewHashKey(0, 0), shardlog.MaxHashKey
		fill := func(a, b int) *Tx {
			tx := db.Begin()
			tx.Put(free, keyed("k", "x"))
			for range a {
				tx.Put(st, shardlog.Record{PartitionKey: "k", ExplicitHashKey: low})
			}
			for range b {
				tx.Put(st, shardlog.Record{PartitionKey: "k", ExplicitHashKey: high})
			}
			return tx
		}
		commit(t, fill(4, 4))
		tx := fill(1, 8)
		_, err := tx.Commit(t.Context())
		require.ErrorIs(t, err, shardlog.ErrThroughputExceeded)
		var e *shardlog.Error
		require.ErrorAs(t, err, &e)
		require.InDelta(t, 200*time.Millisecond, e.RetryAfter, float64(time.Millisecond))
		commit(t, fill(6, 6)) // the other one took nothing
		time.Sleep(time.Second)
		commit(t, tx)
		require.Len(t, readStream(t, free), 3)
		require.NoError(t, db.Close())
	})
}

// A transaction and other writers of its rows see each other's work, in
// whatever order they come; nobody else waits.
func TestRowsOfATransactionUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, db := openHeld(t)
		st := create(t, db, "s", Config{})
		cps := db.Checkpoints()
		row, err := cps.Create(t.Context(), checkpoint.Lease{Key: txKey})
		require.NoError(t, err)
		store.hold()
		ctx, cancel := context.WithCancel(t.Context())
		tx := db.Begin()
		tx.Put(st, keyed("k", "tx"))
		tx.Checkpoint(row)
		errs := make(chan error, 1)
		go func() { _, err := tx.Commit(ctx); errs <- err }()
		synctest.Wait()
		cancel() // its row stays locked until the outcome is known
		require.ErrorIs(t, <-errs, shardlog.ErrUnknownOutcome)
		go func() { _, err := cps.Update(t.Context(), row); errs <- err }()
		synctest.Wait()
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, err = cps.Update(short, row)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		store.release()
		require.ErrorIs(t, <-errs, shardlog.ErrConflict)
		got, err := cps.Get(t.Context(), txKey)
		require.NoError(t, err)
		require.Greater(t, got.Version, row.Version)

		// One that fails gives the row back as it was.
		store.hold()
		tx = db.Begin()
		tx.Put(st, keyed("k", "failed"))
		tx.Checkpoint(got)
		committed, updated := make(chan error, 1), make(chan error, 1)
		go func() { _, err := tx.Commit(t.Context()); committed <- err }()
		synctest.Wait()
		go func() { _, err := cps.Update(t.Context(), got); updated <- err }()
		synctest.Wait()
		store.refuse(1)
		store.release()
		require.ErrorIs(t, <-committed, kvtest.ErrInjected)
		require.NoError(t, <-updated)
		requireOnce(t, st, "tx")
		_, err = tx.Commit(t.Context())
		require.ErrorIs(t, err, shardlog.ErrConflict)
		require.Empty(t, db.rows.held)
		require.NoError(t, db.Close())
	})
}

// Accounts on rows, moved by many transactions that conflict: no sum is lost,
// and each transaction's records are there once if it was committed.
func TestTransactionsThatCompete(t *testing.T) {
	db := openDB(t, t.TempDir(), smallOptions())
	a := create(t, db, "s", Config{Shards: 3, Retention: Forever})
	b := create(t, db, "b", Config{Shards: 2, Retention: Forever})
	const accounts, writers, moves = 4, 6, 25
	keys := make([]checkpoint.Key, accounts)
	for i := range keys {
		keys[i] = checkpoint.Key{Group: "g", Stream: "s", Shard: fmt.Sprint(i)}
		_, err := db.Checkpoints().Create(t.Context(), checkpoint.Lease{Key: keys[i], Beat: 1000})
		require.NoError(t, err)
	}
	done := make(chan struct{})
	var resharder, wg sync.WaitGroup
	resharder.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				require.NoError(t, a.Reshard(context.Background(), 1+i%4))
				require.NoError(t, b.Reshard(context.Background(), 1+i%3))
			}
		}
	})
	for w := range writers {
		wg.Go(func() {
			for n := 0; n < moves; {
				from, to := keys[(w+n)%accounts], keys[(w+n+1+w%3)%accounts]
				x, err := db.Checkpoints().Get(context.Background(), from)
				require.NoError(t, err)
				y, err := db.Checkpoints().Get(context.Background(), to)
				require.NoError(t, err)
				x.Beat--
				y.Beat++
				tx := db.Begin()
				if w%2 == 0 {
					tx.Put(a, keyed(from.Shard, fmt.Sprint(w, "-", n)))
					tx.Put(b, keyed(to.Shard, fmt.Sprint(w, "-", n)))
				} else {
					tx.Put(b, keyed(to.Shard, fmt.Sprint(w, "-", n)))
					tx.Put(a, keyed(from.Shard, fmt.Sprint(w, "-", n)))
				}
				tx.Checkpoint(y)
				tx.Checkpoint(x)
				_, err = tx.Commit(context.Background())
				if err == nil {
					n++
				} else {
					require.ErrorIs(t, err, shardlog.ErrConflict)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	resharder.Wait()
	var sum uint64
	for _, k := range keys {
		l, err := db.Checkpoints().Get(t.Context(), k)
		require.NoError(t, err)
		sum += l.Beat
	}
	require.Equal(t, uint64(1000*accounts), sum)
	var want []string
	for w := range writers {
		for n := range moves {
			want = append(want, fmt.Sprint(w, "-", n))
		}
	}
	requireOnce(t, a, want...)
	requireOnce(t, b, want...)
}

// Readers of a shard see all records of a transaction there, or none.
func TestReadersSeeWholeTransactions(t *testing.T) {
	db := openMem(t)
	st := create(t, db, "s", Config{Shards: 2, Retention: Forever})
	const rounds, per = 30, 40
	var wg sync.WaitGroup
	for _, s := range shards(t, st) {
		wg.Go(func() {
			for seen := 0; seen < rounds*per; {
				p, err := st.Read(context.Background(), shardlog.ReadRequest{ShardID: s.ID, Wait: 10 * time.Millisecond})
				require.NoError(t, err)
				seen = len(p.Records)
				require.Zero(t, seen%per)
			}
		})
	}
	for range rounds {
		tx := db.Begin()
		for i := range per {
			tx.Put(st, shardlog.Record{PartitionKey: "k", ExplicitHashKey: shardlog.NewHashKey(0, 0), Data: make([]byte, i*10)},
				shardlog.Record{PartitionKey: "k", ExplicitHashKey: shardlog.MaxHashKey, Data: make([]byte, i*10)})
		}
		commit(t, tx)
	}
	wg.Wait()
}

// What was stored before counts as a duplicate, also if the transaction has
// nothing else to store.
func TestTransactionOfDuplicatesOnlyIsCounted(t *testing.T) {
	db := openMem(t)
	st := create(t, db, "s", Config{DedupWindow: time.Minute})
	r := shardlog.Record{PartitionKey: "k", DedupID: "x"}
	for round := range int64(3) {
		tx := db.Begin()
		tx.Put(st, r, r)
		res, err := tx.Commit(t.Context())
		require.NoError(t, err)
		require.Equal(t, res.Records[0].Sequence, res.Records[1].Sequence)
		require.Equal(t, 2*round+1, st.Stats().Duplicates)
	}
	require.Len(t, readStream(t, st), 1)
}
