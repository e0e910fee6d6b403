package producer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// openStream opens a stream in memory.
func openStream(t testing.TB, cfg stream.Config) *stream.Stream {
	t.Helper()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	st, err := db.Create(context.Background(), "test", cfg)
	require.NoError(t, err)
	return st
}

// userRecord is a user record as a consumer finds it.
type userRecord struct {
	key, data string
	seq       shardlog.SequenceNumber
	sub       uint32
	shard     string
}

// readAll reads every shard from the start, parents before children, decodes
// aggregates, and drops what does not belong to its shard, as a consumer does.
func readAll(t testing.TB, st *stream.Stream) (out []userRecord) {
	t.Helper()
	infos, err := st.Shards(context.Background())
	require.NoError(t, err)
	for _, info := range infos {
		from := shardlog.TrimHorizon()
		for {
			page, err := st.Read(context.Background(), shardlog.ReadRequest{ShardID: info.ID, From: from})
			require.NoError(t, err)
			for i := range page.Records {
				r := &page.Records[i]
				aggregate := kpl.IsAggregate(r.Data)
				for j, u := range users(r) {
					if h := u.Hash(); aggregate && (h.Compare(info.HashStart) < 0 || h.Compare(info.HashEnd) > 0) {
						t.Errorf("%s is outside of %s", u.Data, info.ID)
					}
					out = append(out, userRecord{key: u.PartitionKey, data: string(u.Data), seq: r.Sequence, sub: uint32(j), shard: info.ID})
				}
			}
			if from = page.Next; len(page.Records) == 0 {
				break
			}
		}
	}
	return out
}

// Scenarios 45 and 72 over the log: a hundred reshards under load, and every
// record is there exactly once, in the order of its key, where its result says.
func TestScenario45Scenario72HundredReshardsUnderLoad(t *testing.T) {
	for _, tt := range []producer.Options{
		{TTL: -1},
		{TTL: -1, Aggregation: producer.Aggregation{Enabled: true, MaxCount: 20}},
		{TTL: -1, Aggregation: producer.Aggregation{Enabled: true}, ID: "p", Keyless: true},
	} {
		t.Run(fmt.Sprintf("aggregation=%t/id=%s", tt.Aggregation.Enabled, tt.ID), func(t *testing.T) {
			st := openStream(t, stream.Config{Shards: 2})
			p := newProducer(t, st, &tt)
			const perReshard = 100 // how many records each writer puts during a reshard
			var reshards atomic.Int64
			var mu sync.Mutex
			results := map[string]producer.Result{}
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := range perReshard * reshardsUnderLoad {
						for int64(i) >= perReshard*(reshards.Load()+1) {
							time.Sleep(100 * time.Microsecond) // for the next one
						}
						name := fmt.Sprintf("%d-%d", w, i)
						r := rec(fmt.Sprintf("key%d/%d", w, i%5), name)
						if tt.Keyless && i%7 == 0 {
							r.PartitionKey = ""
						}
						err := p.PutAsync(context.Background(), r, func(res producer.Result, err error) {
							if err != nil {
								t.Errorf("%s: %v", name, err)
							}
							mu.Lock()
							results[name] = res
							mu.Unlock()
						})
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			resharded(t, st, reshardsUnderLoad, &reshards)
			wg.Wait()
			require.NoError(t, p.Shutdown(context.Background()))
			all := readAll(t, st)
			require.Len(t, all, len(results), "none is lost, and none is there twice")
			last := map[string]int{}
			for _, u := range all {
				res, ok := results[u.data]
				require.True(t, ok, u.data)
				require.Equal(t, res.Sequence, u.seq)
				require.Equal(t, res.SubSequence, u.sub)
				require.Equal(t, res.ShardID, u.shard)
				if len(u.key) != 16 { // not one of those without
					n := number(t, u.data)
					before, seen := last[u.key]
					require.True(t, !seen || before < n, "%s of %s comes after %d", u.data, u.key, before)
					last[u.key] = n
				}
			}
			t.Logf("%d records, %d stored ones, %d requests, errors %v", len(all), p.Stats().Stored, p.Stats().Requests, p.Stats().Errors)
			if tt.Aggregation.Enabled {
				assert.Positive(t, p.Stats().Errors["wrong shard"], "the test meets what it is for")
			}
		})
	}
}

const reshardsUnderLoad = 100

// resharded splits and merges shards n times, which done counts.
func resharded(t *testing.T, st *stream.Stream, n int64, done *atomic.Int64) {
	for done.Load() < n {
		infos, err := st.Shards(context.Background())
		require.NoError(t, err)
		var open []shardlog.ShardInfo
		for _, i := range infos {
			if !i.Closed {
				open = append(open, i)
			}
		}
		a := open[rand.IntN(len(open))]
		if len(open) < 6 && rand.IntN(2) == 0 {
			_, err = st.Split(context.Background(), a.ID, shardlog.HashKey{})
		} else {
			err = errNoNeighbour
			for _, b := range open {
				if next, ok := a.HashEnd.Next(); ok && b.HashStart == next {
					_, err = st.Merge(context.Background(), a.ID, b.ID)
				}
			}
		}
		if err == nil {
			done.Add(1)
		} else if !errors.Is(err, errNoNeighbour) {
			require.NoError(t, err)
		}
		time.Sleep(time.Millisecond)
	}
}

var errNoNeighbour = errors.New("no neighbour")

// Scenarios 67 and 74 over the log.
func TestScenario67Scenario74IdentityOverAStream(t *testing.T) {
	st := openStream(t, stream.Config{Shards: 4})
	lossy := &lossySink{Stream: st}
	p := newProducer(t, lossy, &producer.Options{ID: "p", Aggregation: producer.Aggregation{Enabled: true, MaxCount: 7}, Retry: producer.Retry{Initial: time.Millisecond}})
	names := numbered("", 20_000)
	o := putAll(t, p, numbered("key", 50), names)
	seen := map[string]int{}
	for _, u := range readAll(t, st) {
		seen[u.data]++
		assert.Equal(t, u.seq, o.res[u.data].Sequence)
	}
	for _, n := range names {
		require.NoError(t, o.err(t, n))
		require.Equal(t, 1, seen[n], n)
	}
	assert.Positive(t, lossy.lost.Load())
	newer := newProducer(t, st, &producer.Options{ID: "p"})
	_, err := newer.Put(t.Context(), rec("k", "newer"))
	require.NoError(t, err)
	_, err = p.Put(t.Context(), rec("k", "older"))
	require.ErrorIs(t, err, shardlog.ErrFenced)
	require.NoError(t, newer.Shutdown(t.Context()))
	require.NoError(t, p.Shutdown(t.Context()))
}

// lossySink is a stream of which every third answer is lost.
type lossySink struct {
	*stream.Stream
	n, lost atomic.Int64
}

func (s *lossySink) PutRequest(ctx context.Context, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	res, err := s.Stream.PutRequest(ctx, req)
	if s.n.Add(1)%3 == 0 {
		s.lost.Add(1)
		return nil, shardlog.ErrUnknownOutcome
	}
	return res, err
}

// Scenario 75 over the log, with a restart between.
func TestScenario75DedupIDOverAStream(t *testing.T) {
	dir := t.TempDir()
	var first producer.Result
	for restart := range 2 {
		db, err := stream.Open(dir, &stream.Options{Durability: stream.SyncNever})
		require.NoError(t, err)
		var st *stream.Stream
		if restart == 0 {
			st, err = db.Create(t.Context(), "test", stream.Config{DedupWindow: time.Hour})
		} else {
			st, err = db.Stream(t.Context(), "test")
		}
		require.NoError(t, err)
		p := newProducer(t, st, nil)
		for i := range 2 {
			res, err := p.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("a"), DedupID: "id"})
			require.NoError(t, err)
			if restart+i == 0 {
				first = res
				assert.False(t, res.Duplicate)
				continue
			}
			assert.True(t, res.Duplicate)
			assert.Equal(t, first.Sequence, res.Sequence)
			assert.Equal(t, first.ShardID, res.ShardID)
		}
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Len(t, readAll(t, st), 1)
		require.NoError(t, db.Close())
	}
}

// A stream that hashes keys in another way does not place them as Aggregation,
// Keyless and ShardRate require: the records of a key from this producer would be
// on another shard than those from others.
func TestAnotherHashIsRefused(t *testing.T) {
	st := openStream(t, stream.Config{Shards: 8, Hash: stream.XXHash})
	for _, o := range []producer.Options{
		{Aggregation: producer.Aggregation{Enabled: true}}, {Keyless: true}, {ShardRate: producer.ShardRate{Records: 1000}},
	} {
		_, err := producer.New(st, &o)
		require.ErrorIs(t, err, shardlog.ErrUnsupported)
		require.ErrorContains(t, err, "KeyRanges")
	}
	newProducer(t, st, nil)
}

// Scenario 65: what the producer holds stays within its bounds while the sink
// stalls, whatever is put.
func TestScenario65MemoryIsFlatWhileTheSinkStalls(t *testing.T) {
	release := make(chan struct{})
	sink := &fakeSink{on: func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
		<-release
		return make([]shardlog.PutResult, len(records)), nil
	}}
	p := newProducer(t, sink, &producer.Options{BufferBytes: 8 << 20, TTL: -1, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	data := make([]byte, 1000)
	fill := func() (taken int) {
		for range 100_000 {
			if p.TryPut(shardlog.Record{PartitionKey: "key", Data: data}, nil) == nil {
				taken++
			}
		}
		return taken
	}
	taken := fill()
	assert.InDelta(t, 8<<20/1003, taken, 1)
	for range 5 {
		assert.Zero(t, fill())
		stats := p.Stats()
		assert.Equal(t, taken, stats.Pending)
		assert.LessOrEqual(t, stats.PendingBytes, int64(8<<20))
		entries, chunks, queues, _ := p.Kept()
		assert.Zero(t, entries+chunks+queues, "what is refused leaves nothing behind")
	}
	close(release)
	require.NoError(t, p.Shutdown(t.Context()))
}
