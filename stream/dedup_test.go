package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
	"github.com/shardlog/shardlog/internal/once"
)

func withID(id, data string) shardlog.Record {
	return shardlog.Record{PartitionKey: fmt.Sprintf("key of %.20s", data), Data: []byte(data), DedupID: id}
}

func putID(t testing.TB, st *Stream, id, data string) shardlog.PutResult {
	t.Helper()
	res, err := st.Put(context.Background(), withID(id, data))
	require.NoError(t, err)
	return res
}

// putIDs is PutRecords where nothing fails; the data are the IDs and a suffix.
func putIDs(t testing.TB, st *Stream, suffix string, ids ...string) []shardlog.PutResult {
	t.Helper()
	var recs []shardlog.Record
	for _, id := range ids {
		recs = append(recs, withID(id, id+suffix))
	}
	res, err := st.PutRecords(context.Background(), recs)
	require.NoError(t, err)
	for i := range res {
		require.NoError(t, res[i].Err)
	}
	return res
}

// Scenario 75: a DedupID twice within the window is stored once; the second
// result is the first's, also after a restart and a reshard.
func TestADedupIDIsStoredOnce(t *testing.T) {
	for _, c := range []Compression{NoCompression, S2, Zstd} {
		everyStore(t, func(t *testing.T, reopen func() *DB) {
			st := create(t, reopen(), "s", Config{Shards: 3, Retention: Forever, DedupWindow: time.Hour, Compression: c})
			require.Equal(t, time.Hour, st.Info().DedupWindow)
			require.True(t, st.Capabilities().DedupID)
			var ids, want []string
			for i := range 300 {
				ids = append(ids, fmt.Sprint("id", i))
				want = append(want, ids[i]+strings.Repeat("x", 300))
			}
			first := putIDs(t, st, strings.Repeat("x", 300), ids...)
			one := putID(t, st, "one", "one")
			want = append(want, "one")
			for round := range 3 {
				// The copies may differ in all but the ID, and so in their shard.
				requireDuplicates(t, first, putIDs(t, st, fmt.Sprint(round), ids...))
				again := putID(t, st, "one", "another")
				requireDuplicates(t, []shardlog.PutResult{one}, []shardlog.PutResult{again})
				mixed := putIDs(t, st, "", "id7", fmt.Sprint("new", round), "id8")
				require.Equal(t, []bool{true, false, true}, duplicates(mixed))
				want = append(want, fmt.Sprint("new", round))
				if round == 0 {
					require.NoError(t, st.Reshard(t.Context(), 5))
				} else {
					st = theStream(t, reopen())
				}
			}
			requireOnce(t, st, want...)
			for _, r := range readStream(t, st) {
				require.True(t, strings.HasPrefix(string(r.Data), r.DedupID), "the ID is kept with its record")
			}
		})
	}
}

func TestADedupIDTwiceInOneCall(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 4, DedupWindow: time.Minute})
	res := putIDs(t, st, "", "a", "b", "a", "a", "b")
	require.Equal(t, []bool{false, false, true, true, true}, duplicates(res))
	require.Equal(t, res[0].Sequence, res[2].Sequence)
	require.Equal(t, res[0].Sequence, res[3].Sequence)
	require.Equal(t, res[1].Sequence, res[4].Sequence)
	requireOnce(t, st, "a", "b")
	require.Equal(t, int64(3), st.Stats().Duplicates)
	require.Equal(t, 2, st.Stats().DedupIDs)
	// Records without an ID are not touched.
	for range 2 {
		_, err := st.PutRecords(t.Context(), []shardlog.Record{{PartitionKey: "k", Data: []byte("plain")}, withID("a", "a")})
		require.NoError(t, err)
	}
	requireOnce(t, st, "a", "b", "plain", "plain")
}

func TestADedupIDFromManySides(t *testing.T) {
	st := create(t, openDB(t, t.TempDir(), smallOptions()), "s", Config{Shards: 4, DedupWindow: time.Minute, Retention: Forever})
	const writers, ids = 8, 60
	var mu sync.Mutex
	places := map[string]shardlog.PutResult{}
	stored := 0
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range ids {
				a, b := fmt.Sprint((i*7+w)%ids), fmt.Sprint((i*11+2*w)%ids)
				res, err := st.PutRecords(context.Background(), []shardlog.Record{withID(a, a), withID(b, b)})
				require.NoError(t, err)
				mu.Lock()
				for j, id := range []string{a, b} {
					require.NoError(t, res[j].Err)
					if !res[j].Duplicate {
						stored++
					}
					res[j].Duplicate = false
					if p, ok := places[id]; ok {
						require.Equal(t, p, res[j])
					}
					places[id] = res[j]
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, places, ids)
	require.Equal(t, ids, stored)
	require.Len(t, readStream(t, st), ids)
}

// After the window a copy is a record of its own, which begins a new window.
func TestTheDedupWindowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSurviving()
		db := store.open(t, nil)
		const window = 10 * time.Second
		st := create(t, db, "s", Config{Shards: 2, Retention: Forever, DedupWindow: window})
		first := putID(t, st, "a", "1")
		time.Sleep(window - time.Millisecond)
		synctest.Wait()
		require.True(t, putID(t, st, "a", "2").Duplicate)
		time.Sleep(time.Millisecond)
		second := putID(t, st, "a", "3")
		require.False(t, second.Duplicate)
		require.NotEqual(t, first.Sequence, second.Sequence)
		time.Sleep(window - time.Millisecond)
		synctest.Wait()
		require.NoError(t, db.Close())
		db = store.open(t, nil)
		st = theStream(t, db)
		require.Equal(t, second.Sequence, putID(t, st, "a", "4").Sequence)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.False(t, putID(t, st, "a", "5").Duplicate)
		requireOnce(t, st, "1", "3", "5")

		// Nothing of what is over is kept.
		for i := range 200 {
			putID(t, st, fmt.Sprint("id", i), "x")
			time.Sleep(window / 20)
		}
		count := func() int {
			info, n := st.dedup.Info(), 0
			for _, a := range info.Ages {
				n += a
			}
			require.Equal(t, n, info.Remembered)
			require.LessOrEqual(t, len(info.Ages), once.AgesPerWindow+2)
			return n
		}
		require.LessOrEqual(t, count(), 31)
		time.Sleep(2 * window)
		synctest.Wait()
		require.Zero(t, count(), "also when nobody writes")
		require.NoError(t, db.Close())
	})
}

func TestSetDedupWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSurviving()
		db := store.open(t, nil)
		st := create(t, db, "s", Config{Retention: Forever})
		require.False(t, st.Capabilities().DedupID)
		_, err := st.Put(t.Context(), withID("a", "a"))
		requireInvalid(t, err, "DedupID")
		_, err = st.PutRecords(t.Context(), []shardlog.Record{withID("", "b"), withID("a", "a")})
		requireInvalid(t, err, "records[1].DedupID")
		for _, d := range []time.Duration{-1, time.Microsecond, MaxDedupWindow + 1} {
			requireInvalid(t, st.SetDedupWindow(t.Context(), d), "DedupWindow")
			_, err := db.Create(t.Context(), "bad", Config{DedupWindow: d})
			requireInvalid(t, err, "DedupWindow")
		}
		require.NoError(t, st.SetDedupWindow(t.Context(), time.Minute))
		require.True(t, st.Capabilities().DedupID)
		putID(t, st, "a", "a")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.True(t, putID(t, st, "a", "a").Duplicate)
		require.NoError(t, st.SetDedupWindow(t.Context(), 20*time.Second))
		require.False(t, putID(t, st, "a", "a again").Duplicate)
		require.NoError(t, db.Close())
		st = theStream(t, store.open(t, nil))
		require.Equal(t, 20*time.Second, st.Info().DedupWindow)
		require.True(t, putID(t, st, "a", "a").Duplicate)
		require.NoError(t, st.SetDedupWindow(t.Context(), 0))
		_, err = st.Put(t.Context(), withID("a", "a"))
		requireInvalid(t, err, "DedupID")
		requireOnce(t, st, "a", "a again")
		require.NoError(t, st.db.Close())
	})
}

func TestDedupIDsThatAreRefused(t *testing.T) {
	st := create(t, openMem(t), "s", Config{DedupWindow: time.Minute})
	for _, id := range []string{strings.Repeat("x", shardlog.MaxDedupIDLength+1), "\xff", "a\xc3"} {
		_, err := st.Put(t.Context(), withID(id, "a"))
		requireInvalid(t, err, "DedupID")
	}
	putID(t, st, strings.Repeat("é", shardlog.MaxDedupIDLength/2), "longest")
	require.True(t, putID(t, st, strings.Repeat("é", shardlog.MaxDedupIDLength/2), "longest").Duplicate)
	_, err := st.PutIf(t.Context(), shardID(0), shardlog.SequenceNumber{}, []shardlog.Record{withID("a", "a")})
	requireInvalid(t, err, "DedupID")
	// The ID counts towards no limit.
	small := create(t, st.db, "small", Config{MaxRecordSize: 10, DedupWindow: time.Minute})
	_, err = small.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("123456789"), DedupID: "a long dedup ID"})
	require.NoError(t, err)
}

// A record whose storage fails leaves no trace: its copy is stored.
func TestADedupIDWhoseRecordFailed(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprintf("caller gone: %t", gone), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, db := openHeld(t)
				st := create(t, db, "s", Config{Retention: Forever, DedupWindow: time.Minute})
				store.hold()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				first := make(chan error, 1)
				go func() { _, err := st.Put(ctx, withID("a", "1")); first <- err }()
				synctest.Wait()
				if gone {
					cancel()
					require.ErrorIs(t, <-first, shardlog.ErrUnknownOutcome)
				}
				second := make(chan shardlog.PutResult, 1)
				go func() {
					res, err := st.Put(context.Background(), withID("a", "2"))
					require.NoError(t, err)
					second <- res
				}()
				synctest.Wait()
				select {
				case <-second:
					t.Fatal("the outcome of the first is not known")
				default:
				}
				store.refuse(1)
				store.release()
				if !gone {
					require.ErrorIs(t, <-first, kvtest.ErrInjected)
				}
				require.False(t, (<-second).Duplicate)
				requireOnce(t, st, "2")
				require.NoError(t, db.Close())
			})
		})
	}
}

func TestThrottledRecordsDoNotUseUpTheirIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		st := create(t, db, "s", Config{DedupWindow: time.Hour, Limits: Limits{WriteRecords: 2}})
		recs := []shardlog.Record{withID("a", "a"), withID("b", "b"), withID("c", "c"), withID("c", "c"), withID("a", "a")}
		res, err := st.PutRecords(t.Context(), recs)
		require.NoError(t, err)
		for _, i := range []int{2, 3} {
			require.ErrorIs(t, res[i].Err, shardlog.ErrThroughputExceeded)
			require.False(t, res[i].Duplicate)
		}
		require.True(t, res[4].Duplicate)
		time.Sleep(time.Second)
		res, err = st.PutRecords(t.Context(), recs)
		require.NoError(t, err)
		require.Equal(t, []bool{true, true, false, true, true}, duplicates(res))
		requireOnce(t, st, "a", "b", "c")
		require.NoError(t, db.Close())
	})
}

func TestAsManyDedupIDsAsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		st := create(t, db, "s", Config{DedupWindow: 8 * time.Second})
		st.dedup.SetLimit(10)
		for i := range 10 {
			putID(t, st, fmt.Sprint(i), fmt.Sprint(i))
		}
		_, err := st.Put(t.Context(), withID("more", "more"))
		require.ErrorIs(t, err, shardlog.ErrThroughputExceeded)
		var e *shardlog.Error
		require.ErrorAs(t, err, &e)
		require.Greater(t, e.RetryAfter, 7*time.Second)
		require.True(t, putID(t, st, "3", "3").Duplicate)
		put(t, st, "k", "plain")
		time.Sleep(e.RetryAfter)
		putID(t, st, "more", "more")
		require.NoError(t, db.Close())
	})
}

// Both ways of telling copies apart, together.
func TestNumbersAndDedupIDs(t *testing.T) {
	everyStore(t, func(t *testing.T, reopen func() *DB) {
		st := create(t, reopen(), "s", Config{Shards: 2, Retention: Forever, DedupWindow: time.Hour})
		epoch := openProducer(t, st, "p")
		req := numberedRequest("p", epoch, 0, span(0, 5)...)
		for i, id := range []string{"a", "b", "", "a", "old"} {
			req.Records[i].DedupID = id
		}
		old := putID(t, st, "old", "old")
		res := request(t, st, req)
		require.Equal(t, []bool{false, false, false, true, true}, duplicates(res))
		require.Equal(t, res[0].Sequence, res[3].Sequence)
		require.Equal(t, old.Sequence, res[4].Sequence)
		st = theStream(t, reopen())
		// Each number has its place, whatever the IDs say now.
		require.NoError(t, st.SetDedupWindow(t.Context(), 0))
		for i := range req.Records {
			req.Records[i].DedupID = ""
		}
		requireDuplicates(t, res, request(t, st, req))
		requireOnce(t, st, "0", "1", "2", "old")
		// A call of copies alone.
		require.NoError(t, st.SetDedupWindow(t.Context(), time.Hour))
		req = numberedRequest("p", epoch, 5, 5, 6)
		req.Records[0].DedupID, req.Records[1].DedupID = "fresh", "fresh"
		request(t, st, req)
		req = numberedRequest("p", epoch, 5, 7)
		req.Records[0].DedupID = "fresh"
		require.True(t, request(t, st, req)[0].Duplicate)
		p := st.producers.Find("p").Info()
		require.Contains(t, p.Numbers, uint64(7))
		require.Zero(t, p.Reserved)
		require.Zero(t, st.dedup.Info().Reserved)
	})
}

// What is damaged cannot tell its IDs; the rest does, and the database opens.
func TestDedupIDsOfDamagedBlocks(t *testing.T) {
	store := kvtest.New(newSurviving())
	opts, err := (&Options{}).withDefaults("dir")
	require.NoError(t, err)
	db, err := openOn(store, opts)
	require.NoError(t, err)
	st := create(t, db, "s", Config{Retention: Forever, DedupWindow: time.Hour})
	putID(t, st, "lost", strings.Repeat("x", 100_000))
	putID(t, st, "kept", strings.Repeat("y", 100_000))
	require.NoError(t, db.Close())
	hit := 0
	store.Damage(func(k, v []byte) []byte {
		if k[0] == 'b' && hit == 0 {
			hit++
			v[len(v)/2]++
		}
		return v
	})
	db, err = openOn(store, opts)
	require.NoError(t, err)
	store.Damage(nil)
	st = theStream(t, db)
	require.Equal(t, 1, hit)
	require.True(t, putID(t, st, "kept", "y").Duplicate)
	require.False(t, putID(t, st, "lost", "x").Duplicate)
	require.NoError(t, db.Close())

	store.OnRead(func(op kvtest.Op, k []byte) {
		if op == kvtest.Get && k[0] == 'b' {
			store.FailAt(1, kvtest.Get, kvtest.Refuse, nil)
		}
	})
	_, err = openOn(store, opts)
	require.ErrorIs(t, err, kvtest.ErrInjected, "what cannot be read for now may be intact")
	require.False(t, errors.Is(err, shardlog.ErrCorrupt))
}
