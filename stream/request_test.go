package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
	"github.com/shardlog/shardlog/internal/once"
)

// numberedRequest makes a request of records whose data are their numbers, and
// whose keys are the numbers modulo some.
func numberedRequest(id string, epoch, done uint64, numbers ...uint64) *shardlog.PutRequest {
	req := &shardlog.PutRequest{Producer: id, Epoch: epoch, Done: done, Numbers: numbers}
	for _, n := range numbers {
		req.Records = append(req.Records, shardlog.Record{PartitionKey: fmt.Sprint("key-", n%7), Data: []byte(fmt.Sprint(n))})
	}
	return req
}

func span(from, to uint64) (numbers []uint64) {
	for n := from; n < to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

func openProducer(t testing.TB, st *Stream, id string) uint64 {
	t.Helper()
	epoch, err := st.OpenProducer(context.Background(), id)
	require.NoError(t, err)
	return epoch
}

// request is PutRequest where nothing fails.
func request(t testing.TB, st *Stream, req *shardlog.PutRequest) []shardlog.PutResult {
	t.Helper()
	res, err := st.PutRequest(context.Background(), req)
	require.NoError(t, err)
	require.Len(t, res, len(req.Records))
	for i := range res {
		require.NoError(t, res[i].Err)
	}
	return res
}

// requireOnce checks that the stream has the data given, each once.
func requireOnce(t testing.TB, st *Stream, want ...string) {
	t.Helper()
	var got []string
	for _, r := range readStream(t, st) {
		got = append(got, string(r.Data))
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got)
}

func texts(from, to uint64) (out []string) {
	for n := from; n < to; n++ {
		out = append(out, fmt.Sprint(n))
	}
	return out
}

// places checks that the results are those of an earlier request.
func requireDuplicates(t testing.TB, first, again []shardlog.PutResult) {
	t.Helper()
	require.Len(t, again, len(first))
	for i := range first {
		want := first[i]
		want.Duplicate = true
		require.Equal(t, want, again[i])
	}
}

// everyStore runs a test on databases whose streams can be opened again: one
// in memory, and one on disk.
func everyStore(t *testing.T, f func(t *testing.T, reopen func() *DB)) {
	t.Run("memory", func(t *testing.T) {
		store := newSurviving()
		var db *DB
		f(t, func() *DB {
			if db != nil {
				store.dieAfter(0, false) // as if killed
				_ = db.Close()
				store.revive()
			}
			db = store.open(t, nil)
			return db
		})
	})
	t.Run("disk", func(t *testing.T) {
		dir := t.TempDir()
		var db *DB
		f(t, func() *DB {
			if db != nil {
				require.NoError(t, db.Close())
			}
			db = openDB(t, dir, smallOptions())
			return db
		})
	})
}

func theStream(t testing.TB, db *DB) *Stream {
	t.Helper()
	st, err := db.Stream(context.Background(), "s")
	require.NoError(t, err)
	return st
}

// Scenario 67: a request whose answer was lost is sent again. With numbers it is
// stored once, also after a restart and a reshard; without, twice.
func TestNumberedRecordsAreStoredOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, reopen func() *DB) {
		st := create(t, reopen(), "s", Config{Shards: 3, Retention: Forever})
		epoch := openProducer(t, st, "p")
		first := request(t, st, numberedRequest("p", epoch, 0, span(0, 700)...))
		requireDuplicates(t, first, request(t, st, numberedRequest("p", epoch, 0, span(0, 700)...)))

		require.NoError(t, st.Reshard(t.Context(), 5))
		requireDuplicates(t, first, request(t, st, numberedRequest("p", epoch, 0, span(0, 700)...)))

		st = theStream(t, reopen())
		requireDuplicates(t, first[300:], request(t, st, numberedRequest("p", epoch, 200, span(300, 700)...)))

		// Some are new, in the middle and at the end.
		mixed := request(t, st, numberedRequest("p", epoch, 650, 660, 690, 700, 702))
		again := request(t, st, numberedRequest("p", epoch, 650, 660, 690, 700, 701, 702, 703))
		requireDuplicates(t, mixed, []shardlog.PutResult{again[0], again[1], again[2], again[4]})
		require.Equal(t, []bool{true, true, false, false}, duplicates(mixed))
		require.Equal(t, []bool{true, true, true, false, true, false}, duplicates(again))
		requireOnce(t, st, texts(0, 704)...)

		st = theStream(t, reopen())
		last := request(t, st, numberedRequest("p", epoch, 650, span(650, 704)...))
		require.Equal(t, again[3].Sequence, last[51].Sequence)
		requireOnce(t, st, texts(0, 704)...)

		_, err := st.PutRecords(t.Context(), numberedRequest("", 0, 0, 1).Records)
		require.NoError(t, err)
		require.Len(t, readStream(t, st), 705, "without a number it is a copy")
	})
}

func duplicates(res []shardlog.PutResult) (out []bool) {
	for i := range res {
		out = append(out, res[i].Duplicate)
	}
	return out
}

// Numbers that are far above Done, because one of a shard that does not answer
// holds it up, do not make each request rewrite all of them.
func TestManyNumbersAboveDone(t *testing.T) {
	everyStore(t, func(t *testing.T, reopen func() *DB) {
		db := reopen()
		st := create(t, db, "s", Config{Shards: 2, Retention: Forever})
		epoch := openProducer(t, st, "p")
		var first []shardlog.PutResult
		n := uint64(1) // 0 is blocked
		for round := range 2*once.MaxSlots + 10 {
			next := n + uint64(20+round%7)
			first = append(first, request(t, st, numberedRequest("p", epoch, 0, span(n, next)...))...)
			n = next
		}
		requireDuplicates(t, first, request(t, st, numberedRequest("p", epoch, 0, span(1, n)...)))
		st = theStream(t, reopen())
		again := request(t, st, numberedRequest("p", epoch, 0, span(0, n+5)...))
		require.False(t, again[0].Duplicate)
		requireDuplicates(t, first, again[1:n])
		require.False(t, again[n].Duplicate)
		requireOnce(t, st, texts(0, n+5)...)
		// Done catches up, and what is below is forgotten.
		request(t, st, numberedRequest("p", epoch, n, n, n+5))
		_, err := st.PutRequest(t.Context(), numberedRequest("p", epoch, 0, 5))
		requireInvalid(t, err, "Numbers[0]")
		require.Len(t, st.producers.Find("p").Info().Numbers, 6)
	})
}

// Scenario 74: two producers with one identity.
func TestTheOlderOfTwoProducersIsFenced(t *testing.T) {
	everyStore(t, func(t *testing.T, reopen func() *DB) {
		st := create(t, reopen(), "s", Config{Shards: 2, Retention: Forever})
		older := openProducer(t, st, "p")
		request(t, st, numberedRequest("p", older, 0, 0, 1))
		newer := openProducer(t, st, "p")
		require.Greater(t, newer, older)
		for range 2 {
			// What is stored already makes no difference.
			for _, req := range []*shardlog.PutRequest{numberedRequest("p", older, 0, 0), numberedRequest("p", older, 0, 7), numberedRequest("p", older, 0)} {
				res, err := st.PutRequest(t.Context(), req)
				require.ErrorIs(t, err, shardlog.ErrFenced)
				require.Nil(t, res)
				require.False(t, shardlog.Retryable(err))
			}
			st = theStream(t, reopen())
		}
		// Numbers begin again.
		res := request(t, st, numberedRequest("p", newer, 0, 0, 1))
		require.Equal(t, []bool{false, false}, duplicates(res))
		requireOnce(t, st, "0", "0", "1", "1")
		other := openProducer(t, st, "other")
		require.Greater(t, other, newer, "no epoch is used twice in a stream")
		_, err := st.PutRequest(t.Context(), numberedRequest("p", other, 0, 9))
		require.ErrorIs(t, err, shardlog.ErrFenced, "nobody was given that one for it")
		_, err = st.PutRequest(t.Context(), numberedRequest("nobody", 1, 0, 9))
		require.ErrorIs(t, err, shardlog.ErrNotFound)
	})
}

// heldStore is a store whose commits wait while it is held.
type heldStore struct {
	*surviving
	holding chan struct{}
}

func (s *heldStore) hold()    { s.holding <- struct{}{} }
func (s *heldStore) release() { <-s.holding }

func (s *heldStore) Commit(b *kv.Batch) error {
	s.hold()
	defer s.release()
	return s.surviving.Commit(b)
}

func openHeld(t testing.TB) (*heldStore, *DB) {
	store := &heldStore{surviving: newSurviving(), holding: make(chan struct{}, 1)}
	opts, err := (&Options{}).withDefaults("dir")
	require.NoError(t, err)
	db, err := openOn(store, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return store, db
}

// A request with numbers that are being stored waits for their outcome.
func TestNumbersThatAreBeingStored(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails: %t", fails), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, db := openHeld(t)
				st := create(t, db, "s", Config{Shards: 2, Retention: Forever})
				epoch := openProducer(t, st, "p")
				store.hold()
				ctx, cancel := context.WithCancel(t.Context())
				gone := make(chan error, 1)
				go func() {
					res, err := st.PutRequest(ctx, numberedRequest("p", epoch, 0, 1, 2))
					gone <- errors.Join(err, res[0].Err)
				}()
				synctest.Wait()
				cancel()
				require.ErrorIs(t, <-gone, shardlog.ErrUnknownOutcome)
				var wg sync.WaitGroup
				again := make([][]shardlog.PutResult, 3)
				for i := range again {
					wg.Go(func() {
						again[i], _ = st.PutRequest(context.Background(), numberedRequest("p", epoch, 0, 1, 2, uint64(3+i)))
					})
				}
				// Others do not wait for it.
				synctest.Wait()
				if fails {
					// The first dies with its group; the others are stored once.
					store.refuse(1)
				}
				store.release()
				wg.Wait()
				requireOnce(t, st, texts(1, 6)...)
				stored := 0
				for i := range again {
					require.Len(t, again[i], 3)
					require.NoError(t, again[i][0].Err)
					require.Equal(t, again[0][0].Sequence, again[i][0].Sequence)
					require.Equal(t, again[i][0].Duplicate, again[i][1].Duplicate)
					if !again[i][0].Duplicate {
						stored++
					}
				}
				require.Equal(t, fails, stored == 1)
				require.NoError(t, db.Close())
			})
		})
	}
}

// Requests that were on their way when the identity was opened again are stored
// before it or not at all.
func TestOpeningFencesWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, db := openHeld(t)
		st := create(t, db, "s", Config{Shards: 1, Retention: Forever})
		older := openProducer(t, st, "p")
		store.hold()
		var wg sync.WaitGroup
		errs := make([]error, 3)
		put := func(i int) {
			_, errs[i] = st.PutRequest(context.Background(), numberedRequest("p", older, 0, uint64(i)))
		}
		wg.Go(func() { put(0) })
		synctest.Wait()
		wg.Go(func() { put(1) })
		synctest.Wait()
		var newer uint64
		wg.Go(func() { newer, _ = st.OpenProducer(context.Background(), "p") })
		synctest.Wait()
		wg.Go(func() { put(2) })
		synctest.Wait()
		store.release()
		wg.Wait()
		require.NoError(t, errs[0])
		require.NoError(t, errs[1])
		require.ErrorIs(t, errs[2], shardlog.ErrFenced)
		request(t, st, numberedRequest("p", newer, 0, 1))
		requireOnce(t, st, "0", "1", "1")

		// One that fails to open fences nobody.
		store.hold()
		failed := make(chan error, 1)
		go func() { _, err := st.OpenProducer(context.Background(), "p"); failed <- err }()
		synctest.Wait()
		wg.Go(func() { _, errs[0] = st.PutRequest(context.Background(), numberedRequest("p", newer, 0, 2)) })
		synctest.Wait()
		store.refuse(1)
		store.release()
		require.ErrorIs(t, <-failed, kvtest.ErrInjected)
		wg.Wait()
		require.NoError(t, errs[0])
		request(t, st, numberedRequest("p", newer, 0, 3))
		require.NoError(t, db.Close())
	})
}

// Scenarios 45 and 72: what was collected for a shard that was split meanwhile
// is refused before anything of it is written.
func TestMisroutedRecordsAreRefused(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 1, Retention: Forever})
	key := func(hi uint64) shardlog.HashKey { return shardlog.NewHashKey(hi, 0) }
	at := func(hi uint64, data string) shardlog.Record {
		return shardlog.Record{PartitionKey: data, Data: []byte(data), ExplicitHashKey: key(hi)}
	}
	const half = 1 << 63
	req := func() *shardlog.PutRequest {
		return &shardlog.PutRequest{
			Records: []shardlog.Record{at(1, "left"), at(half+1, "right"), at(10, "both"), at(30, "left too"), at(half+3, "apart"), at(50, "free")},
			Ranges: []shardlog.HashRange{{First: key(1), Last: key(2)}, {First: key(half), Last: key(half + 1)}, {First: key(10), Last: key(half + 2)},
				{First: key(30), Last: key(31)}, {First: key(half + 3), Last: key(half + 3)}, {First: key(2), Last: key(9)}},
		}
	}
	request(t, st, req())
	_, err := st.Split(t.Context(), shardID(0), shardlog.HashKey{})
	require.NoError(t, err)
	res, err := st.PutRequest(t.Context(), req())
	require.NoError(t, err)
	want := []error{nil, nil, shardlog.ErrWrongShard, shardlog.ErrNotTried, nil, shardlog.ErrNotTried}
	for i := range want {
		if want[i] == nil {
			require.NoError(t, res[i].Err)
			continue
		}
		require.ErrorIs(t, res[i].Err, want[i], "record %d", i)
		require.Empty(t, res[i].Sequence)
	}
	require.False(t, shardlog.Retryable(res[2].Err))
	var e *shardlog.Error
	require.ErrorAs(t, res[2].Err, &e)
	require.Equal(t, shardID(1), e.Shard)
	require.Equal(t, int64(1), st.Stats().Misrouted)
	requireOnce(t, st, "left", "right", "both", "left too", "apart", "free", "left", "right", "apart")
	for _, s := range shards(t, st) {
		for _, r := range readAll(t, st, s.ID) {
			require.True(t, s.HashStart.Compare(r.ExplicitHashKey) <= 0 && r.ExplicitHashKey.Compare(s.HashEnd) <= 0)
		}
	}
	require.Zero(t, st.Stats().Producers)
	// A number that was stored before the split is a duplicate, not misrouted.
	epoch := openProducer(t, st, "p")
	_, err = st.Merge(t.Context(), shardID(1), shardID(2))
	require.NoError(t, err)
	numbered := req()
	numbered.Producer, numbered.Epoch, numbered.Numbers = "p", epoch, span(0, 6)
	first := request(t, st, numbered)
	_, err = st.Split(t.Context(), shardID(3), shardlog.HashKey{})
	require.NoError(t, err)
	requireDuplicates(t, first, request(t, st, numbered))
	// And one that was refused is free to be sent in another form.
	numbered.Numbers = span(6, 12)
	res, err = st.PutRequest(t.Context(), numbered)
	require.NoError(t, err)
	require.ErrorIs(t, res[2].Err, shardlog.ErrWrongShard)
	numbered.Ranges = nil
	res = request(t, st, numbered)
	require.Equal(t, []bool{true, true, false, false, true, false}, duplicates(res))
}

// Scenario 57, the log's side: every record is stored once and in order while
// the stream is resharded under producers that believe old shards.
func TestStoredOnceThroughReshards(t *testing.T) {
	db := openMem(t)
	st := create(t, db, "s", Config{Shards: 2, Retention: Forever})
	const writers, each = 4, 600
	done := make(chan struct{})
	var wg, resharder sync.WaitGroup
	resharder.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				require.Greater(t, i, 10)
				return
			default:
				require.NoError(t, st.Reshard(context.Background(), 1+i%5))
			}
		}
	})
	for w := range writers {
		id := fmt.Sprint("p", w)
		epoch := openProducer(t, st, id)
		wg.Go(func() {
			for n := uint64(0); n < each; n += 20 {
				req := numberedRequest(id, epoch, n, span(n, n+20)...)
				for i := range req.Records {
					req.Records[i].PartitionKey += id
					req.Records[i].Data = []byte(id + "-" + string(req.Records[i].Data))
				}
				for range 3 { // as if every answer was lost twice
					_, err := st.PutRequest(context.Background(), req)
					require.NoError(t, err)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	resharder.Wait()
	var want []string
	last := map[string]int{}
	for w := range writers {
		for n := range each {
			want = append(want, fmt.Sprintf("p%d-%d", w, n))
		}
	}
	requireOnce(t, st, want...)
	for _, r := range readStream(t, st) {
		var w, n int
		_, err := fmt.Sscanf(string(r.Data), "p%d-%d", &w, &n)
		require.NoError(t, err)
		if before, ok := last[r.PartitionKey]; ok {
			require.Greater(t, n, before, "order of %s", r.PartitionKey)
		}
		last[r.PartitionKey] = n
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	st := create(t, openMem(t), "s", Config{})
	epoch := openProducer(t, st, "p")
	key := shardlog.NewHashKey(0, 1)
	for name, c := range map[string]struct {
		field string
		edit  func(*shardlog.PutRequest)
	}{
		"fewer numbers":      {"Numbers", func(r *shardlog.PutRequest) { r.Numbers = r.Numbers[:1] }},
		"no numbers":         {"Numbers", func(r *shardlog.PutRequest) { r.Numbers = nil }},
		"equal numbers":      {"Numbers[1]", func(r *shardlog.PutRequest) { r.Numbers[1] = r.Numbers[0] }},
		"falling numbers":    {"Numbers[1]", func(r *shardlog.PutRequest) { r.Numbers[1] = 4 }},
		"below done":         {"Numbers[0]", func(r *shardlog.PutRequest) { r.Done = 6 }},
		"far above done":     {"Numbers[1]", func(r *shardlog.PutRequest) { r.Numbers[1] = once.MaxNumbers }},
		"no producer":        {"Numbers", func(r *shardlog.PutRequest) { r.Producer = "" }},
		"epoch alone":        {"Numbers", func(r *shardlog.PutRequest) { r.Producer, r.Numbers = "", nil }},
		"long producer":      {"Producer", func(r *shardlog.PutRequest) { r.Producer = strings.Repeat("x", shardlog.MaxProducerIDLength+1) }},
		"producer not UTF-8": {"Producer", func(r *shardlog.PutRequest) { r.Producer = "\xff" }},
		"fewer ranges":       {"Ranges", func(r *shardlog.PutRequest) { r.Ranges = make([]shardlog.HashRange, 1) }},
		"unset range":        {"Ranges[0]", func(r *shardlog.PutRequest) { r.Ranges = make([]shardlog.HashRange, 2) }},
		"range the wrong way": {"Ranges[1]", func(r *shardlog.PutRequest) {
			r.Ranges = []shardlog.HashRange{{First: key, Last: key}, {First: key, Last: shardlog.NewHashKey(0, 0)}}
		}},
		"bad record": {"records[1].PartitionKey", func(r *shardlog.PutRequest) { r.Records[1].PartitionKey = "" }},
	} {
		t.Run(name, func(t *testing.T) {
			req := numberedRequest("p", epoch, 0, 5, 6)
			c.edit(req)
			_, err := st.PutRequest(t.Context(), req)
			requireInvalid(t, err, c.field)
		})
	}
	_, err := st.PutRequest(t.Context(), nil)
	requireInvalid(t, err, "req")
	for _, id := range []string{"", strings.Repeat("x", shardlog.MaxProducerIDLength+1), "\xff"} {
		_, err := st.OpenProducer(t.Context(), id)
		requireInvalid(t, err, "Producer")
	}
	require.Empty(t, readStream(t, st))
	request(t, st, numberedRequest("p", epoch, 5, 5, 5+once.MaxNumbers-1))
	res, err := st.PutRequest(t.Context(), &shardlog.PutRequest{})
	require.NoError(t, err)
	require.Empty(t, res)
}

// Records over a rate limit do not use up their numbers.
func TestNumbersOfThrottledRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		st := create(t, db, "s", Config{Limits: Limits{WriteRecords: 5}})
		epoch := openProducer(t, st, "p")
		res, err := st.PutRequest(t.Context(), numberedRequest("p", epoch, 0, span(0, 8)...))
		require.NoError(t, err)
		for i := range res {
			if i < 5 {
				require.NoError(t, res[i].Err)
			} else {
				require.ErrorIs(t, res[i].Err, shardlog.ErrThroughputExceeded)
			}
		}
		time.Sleep(time.Second)
		// Duplicates cost nothing.
		res = request(t, st, numberedRequest("p", epoch, 0, span(0, 8)...))
		require.Equal(t, []bool{true, true, true, true, true, false, false, false}, duplicates(res))
		requireOnce(t, st, texts(0, 8)...)
		require.NoError(t, db.Close())
	})
}

func TestProducersExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSurviving()
		db := store.open(t, nil)
		st := create(t, db, "s", Config{Retention: Forever})
		idle, busy := openProducer(t, st, "idle"), openProducer(t, st, "busy")
		request(t, st, numberedRequest("idle", idle, 0, 1))
		for i := range 8 {
			request(t, st, numberedRequest("busy", busy, uint64(i), uint64(i)))
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			if i == 3 {
				// Numbers that were dropped from memory are read again.
				require.Equal(t, []bool{true}, duplicates(request(t, st, numberedRequest("busy", busy, 3, 3))))
				require.NoError(t, db.Close())
				db = store.open(t, nil)
				st = theStream(t, db)
			}
		}
		_, err := st.PutRequest(t.Context(), numberedRequest("idle", idle, 0, 1))
		require.ErrorIs(t, err, shardlog.ErrNotFound)
		request(t, st, numberedRequest("busy", busy, 7, 7, 8))
		keys, err := once.Keys(db.log, &st.id)
		require.NoError(t, err)
		require.Len(t, keys, 2, "the last epoch and one identity")
		again := openProducer(t, st, "idle")
		require.Greater(t, again, busy)
		_, err = st.PutRequest(t.Context(), numberedRequest("idle", idle, 0, 1))
		require.ErrorIs(t, err, shardlog.ErrFenced)
		require.NoError(t, db.Close())
	})
}

func TestManyProducers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		st := create(t, db, "s", Config{Retention: Forever})
		first := openProducer(t, st, "first")
		time.Sleep(time.Minute)
		for i := range MaxProducers - 1 {
			openProducer(t, st, fmt.Sprint(i))
		}
		_, err := st.OpenProducer(t.Context(), "one more")
		requireInvalid(t, err, "Producer")
		time.Sleep(time.Hour - time.Minute)
		openProducer(t, st, "one more")
		_, err = st.PutRequest(t.Context(), numberedRequest("first", first, 0, 1))
		require.ErrorIs(t, err, shardlog.ErrNotFound)
		openProducer(t, st, "one more")
		require.NoError(t, db.Close())
	})
}

// A stream takes what it knows of producers with it, and a backup has it.
func TestProducersOfADeletedStreamAndInABackup(t *testing.T) {
	db := openDB(t, t.TempDir(), smallOptions())
	st := create(t, db, "s", Config{Retention: Forever})
	epoch := openProducer(t, st, "p")
	first := request(t, st, numberedRequest("p", epoch, 0, span(0, 30)...))
	gone := create(t, db, "gone", Config{})
	request(t, gone, numberedRequest("p", openProducer(t, gone, "p"), 0, 1))
	require.NoError(t, db.Delete(t.Context(), "gone"))
	keys, err := once.Keys(db.log, &gone.id)
	require.NoError(t, err)
	require.Empty(t, keys)
	_, err = gone.OpenProducer(t.Context(), "p")
	require.ErrorIs(t, err, shardlog.ErrNotFound)

	var backup strings.Builder
	require.NoError(t, db.Backup(t.Context(), &backup))
	dir := t.TempDir()
	require.NoError(t, Restore(t.Context(), dir, strings.NewReader(backup.String()), smallOptions()))
	restored := theStream(t, openDB(t, dir, smallOptions()))
	requireDuplicates(t, first, request(t, restored, numberedRequest("p", epoch, 0, span(0, 30)...)))
}

// What an earlier epoch has left in the slots is not taken for the later one's.
func TestSlotsOfAnEarlierEpoch(t *testing.T) {
	everyStore(t, func(t *testing.T, reopen func() *DB) {
		st := create(t, reopen(), "s", Config{Shards: 2, Retention: Forever})
		for round := range 2 {
			epoch := openProducer(t, st, "p")
			st = theStream(t, reopen())
			for n := uint64(0); n < 900; n += 100 {
				res := request(t, st, numberedRequest("p", epoch, 0, span(n, n+100)...))
				require.NotContains(t, duplicates(res), true, "round %d, from %d", round, n)
			}
			require.NotZero(t, st.producers.Find("p").Info().Slot)
		}
		require.Len(t, readStream(t, st), 1800)
	})
}

// Numbers whose records were lost in a power failure are stored when they are sent again.
func TestNumbersOfRecordsLostInAPowerFailure(t *testing.T) {
	store := newSurviving()
	opts := &Options{Durability: SyncNever}
	db := store.open(t, opts)
	st := create(t, db, "s", Config{Retention: Forever})
	epoch := openProducer(t, st, "p")
	req := numberedRequest("p", epoch, 0, 0, 1)
	req.Records[0].Data = []byte(strings.Repeat("kept", 10_000))
	req.Records[1].Data = []byte(strings.Repeat("lost", 10_000))
	for i := range 2 {
		request(t, st, &shardlog.PutRequest{Producer: "p", Epoch: epoch, Numbers: req.Numbers[i : i+1], Records: req.Records[i : i+1]})
	}
	store.dieAfter(0, false)
	_ = db.Close()
	store.revive()
	var last []byte
	require.NoError(t, store.Scan([]byte{'b'}, func(k []byte, _ int64) bool {
		last = append([]byte(nil), k...)
		return true
	}))
	require.NoError(t, store.Faulty.Commit(&kv.Batch{Ops: []kv.Op{{Key: last, Delete: true}}}))
	st = theStream(t, store.open(t, opts))
	require.Equal(t, []bool{true, false}, duplicates(request(t, st, req)))
	require.Len(t, readStream(t, st), 2)
}

func TestDamagedStateOfAProducer(t *testing.T) {
	store := newSurviving()
	db := store.open(t, nil)
	st := create(t, db, "s", Config{Retention: Forever})
	request(t, st, numberedRequest("p", openProducer(t, st, "p"), 0, 1))
	key := once.IdentityKey(st.id, "p", 0)
	require.NoError(t, db.Close())
	v, err := store.Get(key)
	require.NoError(t, err)
	for _, c := range []struct {
		value []byte
		want  error
	}{
		{v[:20], shardlog.ErrCorrupt},
		{append(slices.Clone(v[:len(v)-1]), v[len(v)-1]^1), shardlog.ErrCorrupt},
		{append(append(slices.Clone(v[:8]), once.StateVersion+1), v[9:]...), shardlog.ErrVersion},
	} {
		require.NoError(t, store.Faulty.Commit(&kv.Batch{Ops: []kv.Op{{Key: key, Value: c.value}}}))
		db, err := openOn(store, db.opts)
		if errors.Is(c.want, shardlog.ErrVersion) {
			require.ErrorIs(t, err, c.want)
			return
		}
		// Everything else can be used, and the identity when it is opened.
		require.NoError(t, err)
		st := theStream(t, db)
		_, err = st.PutRequest(t.Context(), numberedRequest("p", 1, 0, 1))
		require.ErrorIs(t, err, c.want)
		epoch := openProducer(t, st, "p")
		require.Greater(t, epoch, uint64(1))
		request(t, st, numberedRequest("p", epoch, 0, 1))
		require.NoError(t, db.Close())
	}
	t.Fatal("not reached")
}

// As many numbers as a producer may have are still one value of the store.
func TestAsManyNumbersAsThereMayBe(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir, smallOptions())
	most := db.maxNumbers()
	require.Equal(t, uint64(40960), most)
	st := create(t, db, "s", Config{Shards: 300, Retention: Forever})
	epoch := openProducer(t, st, "p")
	_, err := st.PutRequest(t.Context(), numberedRequest("p", epoch, 5, 5+most))
	requireInvalid(t, err, "Numbers[0]")
	for n := uint64(0); n < most; n += 200 {
		req := numberedRequest("p", epoch, 0, span(n, min(n+200, most))...)
		for i := range req.Records {
			req.Records[i].PartitionKey = fmt.Sprint(n, i)
		}
		request(t, st, req)
	}
	require.NoError(t, db.Close())
	st = theStream(t, openDB(t, dir, smallOptions()))
	require.NotContains(t, duplicates(request(t, st, numberedRequest("p", epoch, 0, span(0, most)...))), false)
}
