package stream

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func requireThrottled(t *testing.T, err error) time.Duration {
	t.Helper()
	require.ErrorIs(t, err, shardlog.ErrThroughputExceeded)
	require.True(t, shardlog.Retryable(err))
	var e *shardlog.Error
	require.ErrorAs(t, err, &e)
	require.Positive(t, e.RetryAfter)
	require.NotEmpty(t, e.Shard)
	return e.RetryAfter
}

func someRecords(n, size int) []shardlog.Record {
	recs := make([]shardlog.Record, n)
	for i := range recs {
		recs[i] = shardlog.Record{PartitionKey: fmt.Sprintf("%06d", i), Data: make([]byte, size-6)}
	}
	return recs
}

func TestRecordsPerSecondAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Limits: KinesisLimits()})
		recs := someRecords(1001, 10)
		res, err := st.PutRecords(t.Context(), recs)
		require.NoError(t, err)
		for i := range 1000 {
			require.NoError(t, res[i].Err)
		}
		wait := requireThrottled(t, res[1000].Err)
		require.LessOrEqual(t, wait, 2*time.Millisecond)
		require.Empty(t, res[1000].ShardID)
		_, err = st.Put(t.Context(), recs[1000])
		requireThrottled(t, err)
		time.Sleep(wait)
		_, err = st.Put(t.Context(), recs[1000])
		require.NoError(t, err)
		got := readAll(t, st, shardID(0))
		require.Len(t, got, 1001)
		for i := range got {
			require.Equal(t, recs[i].PartitionKey, got[i].PartitionKey, "order")
		}
		require.EqualValues(t, 2, st.Stats().Shards[0].WriteThrottles)
	})
}

func TestBytesPerSecondAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Limits: Limits{WriteBytes: 100 << 10}})
		res, err := st.PutRecords(t.Context(), someRecords(11, 10<<10))
		require.NoError(t, err)
		for i := range 10 {
			require.NoError(t, res[i].Err)
		}
		require.Equal(t, 100*time.Millisecond, requireThrottled(t, res[10].Err).Truncate(time.Millisecond))
		time.Sleep(time.Second)
		// Larger than a second's worth: it passes when nothing else did for a
		// second, and what comes after it pays for it.
		large := shardlog.Record{PartitionKey: "k", Data: make([]byte, 250<<10)}
		_, err = st.Put(t.Context(), large)
		require.NoError(t, err)
		_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "k"})
		wait := requireThrottled(t, err)
		require.InDelta(t, 1.5, wait.Seconds(), 0.01)
		time.Sleep(wait)
		_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "k"})
		require.NoError(t, err)
		_, err = st.Put(t.Context(), large)
		time.Sleep(requireThrottled(t, err))
		_, err = st.Put(t.Context(), large)
		require.NoError(t, err)
	})
}

func TestLimitsAreThoseOfEachShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Shards: 2, Limits: Limits{WriteRecords: 5}})
		infos := shards(t, st)
		var recs []shardlog.Record
		for range 6 {
			for _, s := range infos {
				recs = append(recs, shardlog.Record{PartitionKey: s.ID, ExplicitHashKey: s.HashStart})
			}
		}
		recs = recs[:len(recs)-1] // six of the first shard, five of the other
		res, err := st.PutRecords(t.Context(), recs)
		require.NoError(t, err)
		for i := range res {
			if i == 10 {
				requireThrottled(t, res[i].Err)
				continue
			}
			require.NoError(t, res[i].Err)
		}
		_, err = st.PutIf(t.Context(), infos[0].ID, res[8].Sequence, recs[:1])
		wait := requireThrottled(t, err)
		time.Sleep(wait)
		_, err = st.PutIf(t.Context(), infos[0].ID, res[8].Sequence, recs[:1])
		require.NoError(t, err)
		ids, err := st.Split(t.Context(), infos[1].ID, shardlog.HashKey{})
		require.NoError(t, err)
		for range 5 {
			put, err := st.Put(t.Context(), recs[1])
			require.NoError(t, err, "a new shard has its full allowance")
			require.Equal(t, ids[0], put.ShardID)
		}
		_, err = st.Put(t.Context(), recs[1])
		requireThrottled(t, err)
	})
}

// A record that comes after one of its key that was refused is refused too:
// else they would change places when the first is sent again.
func TestThrottledRecordsKeepTheOrderOfTheirKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Limits: Limits{WriteBytes: 1000}})
		recs := []shardlog.Record{
			{PartitionKey: "a", Data: make([]byte, 600)},
			{PartitionKey: "a", Data: make([]byte, 700)},
			{PartitionKey: "a", Data: make([]byte, 10)},
		}
		res, err := st.PutRecords(t.Context(), recs)
		require.NoError(t, err)
		require.NoError(t, res[0].Err)
		requireThrottled(t, res[1].Err)
		requireThrottled(t, res[2].Err)
	})
}

func TestConcurrentWritersDoNotExceedTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Limits: Limits{WriteRecords: 500}})
		var stored, throttled atomic.Int64
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() {
				_, err := st.Put(t.Context(), shardlog.Record{PartitionKey: fmt.Sprint(i)})
				if err == nil {
					stored.Add(1)
				} else if errors.Is(err, shardlog.ErrThroughputExceeded) {
					throttled.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 500, stored.Load())
		require.EqualValues(t, 1500, throttled.Load())
	})
}

func TestReadsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Limits: Limits{ReadCalls: 5, ReadBytes: 2 << 20}})
		_, err := st.PutRecords(t.Context(), someRecords(50, 100<<10))
		require.NoError(t, err)
		req := shardlog.ReadRequest{ShardID: shardID(0), MaxRecords: 1}
		for range 5 {
			_, err := st.Read(t.Context(), req)
			require.NoError(t, err)
		}
		_, err = st.Read(t.Context(), req)
		require.Equal(t, 200*time.Millisecond, requireThrottled(t, err).Truncate(time.Millisecond))
		time.Sleep(2 * time.Second)
		req.MaxRecords = 0
		p, err := st.Read(t.Context(), req)
		require.NoError(t, err)
		require.Len(t, p.Records, 50, "a page may go over the rate; 5,000 KiB here")
		_, err = st.Read(t.Context(), req)
		wait := requireThrottled(t, err)
		require.InDelta(t, 5000.0/2048-1, wait.Seconds(), 0.01)
		time.Sleep(wait)
		_, err = st.Read(t.Context(), req)
		require.NoError(t, err)
		require.EqualValues(t, 2, st.Stats().Shards[0].ReadThrottles)
		require.Len(t, readAll(t, st, shardID(0)), 50, "iterators are not limited")
	})
}

func TestLimitsAreChangedWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{})
		for range 100 {
			put(t, st, "a", "x")
		}
		require.NoError(t, st.SetLimits(t.Context(), Limits{WriteRecords: 1}))
		require.Equal(t, Limits{WriteRecords: 1}, st.Info().Limits)
		put(t, st, "a", "x")
		_, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "a"})
		requireThrottled(t, err)
		require.NoError(t, st.SetLimits(t.Context(), Limits{WriteRecords: 3}))
		for range 3 {
			put(t, st, "a", "x")
		}
		_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "a"})
		requireThrottled(t, err)
		require.NoError(t, st.SetLimits(t.Context(), Limits{}))
		for range 100 {
			put(t, st, "a", "x")
		}
		require.EqualValues(t, 2, st.Stats().Shards[0].WriteThrottles, "counts go on")
	})
}
