package producer_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

func keyless(n int) shardlog.Record { return shardlog.Record{Data: make([]byte, n)} }

func TestKeylessGoesInStickyRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, agg := range []bool{false, true} {
			c := newCluster(4, allCaps)
			p := newProducer(t, c, &producer.Options{Keyless: true, Linger: soon, BufferRecords: 10_000, Aggregation: producer.Aggregation{Enabled: agg}})
			for range 4096 { // 4 MiB, so 64 runs
				require.NoError(t, p.PutAsync(t.Context(), keyless(1008), nil))
			}
			require.NoError(t, p.Flush(t.Context()))
			bytes, runs := map[string]int{}, map[string]int{}
			for _, r := range c.records() {
				require.Len(t, r.rec.PartitionKey, 16)
				require.Equal(t, r.shard, c.at(r.rec.ExplicitHashKey).info.ID)
				for _, u := range r.users {
					bytes[r.shard] += len(u.Data)
					runs[u.PartitionKey] += len(u.Data)
				}
			}
			assert.Len(t, bytes, 4)
			assert.InDelta(t, 64, len(runs), 4)
			for s, n := range bytes {
				assert.Greater(t, n, 300<<10, s)
			}
			assert.Len(t, c.names(), 4096, "readers find all of it in its shard")
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

func TestKeylessDoesNotWaitForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		c.refuse = func(n, _ int, _ *shardlog.Record, _ string) error {
			if n == 0 {
				return throttled(time.Minute)
			}
			return nil
		}
		p := newProducer(t, c, &producer.Options{Keyless: true, TTL: time.Hour})
		require.NoError(t, p.PutAsync(t.Context(), keyless(1), nil))
		synctest.Wait()
		start := time.Now()
		_, err := p.Put(t.Context(), keyless(2))
		require.NoError(t, err)
		assert.Equal(t, start, time.Now(), "records without a key have no order")
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Len(t, c.names(), 2)
	})
}

func TestKeylessAvoidsAShardAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, allCaps)
		p := newProducer(t, c, &producer.Options{Keyless: true, ShardRate: producer.ShardRate{Bytes: 100_000}})
		start := time.Now()
		for range 190 {
			_, err := p.Put(t.Context(), keyless(1000))
			require.NoError(t, err)
		}
		assert.Less(t, time.Since(start), 100*time.Millisecond, "both take 100,000 bytes at once")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestKeylessWithoutAMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, allCaps)
		c.listed = func(int) error { return errors.New("no list") }
		p := newProducer(t, c, &producer.Options{Keyless: true})
		on := map[string]bool{}
		for range 200 {
			res, err := p.Put(t.Context(), keyless(10_000))
			require.NoError(t, err)
			on[res.ShardID] = true
		}
		assert.Len(t, on, 2, "chance spreads them then")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestKeylessRecordsThatAreRefused(t *testing.T) {
	p := newProducer(t, newCluster(1, allCaps), &producer.Options{Keyless: true, MaxRecordSize: 100})
	for field, r := range map[string]shardlog.Record{
		"ExplicitHashKey": {ExplicitHashKey: shardlog.NewHashKey(0, 0)},
		"Data":            keyless(85), // with a key of 16 bytes
	} {
		_, err := p.Put(context.Background(), r)
		var bad *shardlog.InvalidError
		require.ErrorAs(t, err, &bad)
		assert.Equal(t, field, bad.Field)
	}
	_, err := p.Put(context.Background(), keyless(84))
	require.NoError(t, err)
	require.NoError(t, p.Shutdown(context.Background()))
}
