package producer_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// keyOn returns a partition key of a shard.
func keyOn(c *cluster, s *clusterShard) string {
	for _, k := range numbered("key", 1000) {
		if c.at(shardlog.KeyHash(k)) == s {
			return k
		}
	}
	panic("no key")
}

func TestShardRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			limits producer.ShardRate
			agg    bool
			want   time.Duration // for 1,000 records of 100 bytes
		}{
			"records":             {producer.ShardRate{Records: 100}, false, 9 * time.Second},
			"bytes":               {producer.ShardRate{Bytes: 10_000}, false, 9 * time.Second},
			"the lower of both":   {producer.ShardRate{Records: 1000, Bytes: 20_000}, false, 4 * time.Second},
			"aggregates are few":  {producer.ShardRate{Records: 100}, true, 0},
			"aggregates by bytes": {producer.ShardRate{Records: 100, Bytes: 10_000}, true, 10500 * time.Millisecond}, // with what they add
		} {
			c := newCluster(2, allCaps)
			p := newProducer(t, c, &producer.Options{ShardRate: tt.limits, TTL: time.Hour, Aggregation: producer.Aggregation{Enabled: tt.agg}})
			slow, fast := keyOn(c, c.open()[0]), keyOn(c, c.open()[1])
			data := make([]byte, 100-len(slow))
			start := time.Now()
			var last time.Duration
			for range 1000 {
				require.NoError(t, p.PutAsync(t.Context(), shardlog.Record{PartitionKey: slow, Data: data}, func(_ producer.Result, err error) {
					assert.NoError(t, err)
					last = time.Since(start)
				}))
			}
			_, err := p.Put(t.Context(), rec(fast, "other shard"))
			require.NoError(t, err)
			assert.Less(t, time.Since(start), 10*time.Millisecond, "%s: another shard does not wait", name)
			require.NoError(t, p.Flush(t.Context()))
			assert.InDelta(t, tt.want.Seconds(), last.Seconds(), 1, name)
			assert.Empty(t, p.Stats().Errors, name)
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

func TestLimitKeepsOrderAndLetsALargeRecordGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{ShardRate: producer.ShardRate{Records: 10, Bytes: 1000}})
		var names []string
		for i, n := range numbered("", 40) {
			if i == 20 {
				n += strings.Repeat("x", 5000) // more than a second's worth
			}
			names = append(names, n)
		}
		start := time.Now()
		putAll(t, p, numbered("key", 3), names)
		got := c.names()
		require.Len(t, got, len(names))
		for k := range 3 { // in the order of each key
			of := func(list []string) (out []int) {
				for _, n := range list {
					if i := slices.Index(names, n); i%3 == k {
						out = append(out, i)
					}
				}
				return out
			}
			assert.Equal(t, of(names), of(got))
		}
		assert.InDelta(t, 4, time.Since(start).Seconds(), 1.5)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestShardRateAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		took := 0 // the sink takes 100 records a second
		c.refuse = func(int, int, *shardlog.Record, string) error {
			if took++; took > 100 {
				return errThrottled
			}
			return nil
		}
		done := make(chan struct{})
		go func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					c.mu.Lock()
					took = 0
					c.mu.Unlock()
				case <-done:
					return
				}
			}
		}()
		run := func(limits producer.ShardRate) (throttled uint64, took time.Duration) {
			p := newProducer(t, c, &producer.Options{ShardRate: limits, TTL: time.Hour, Retry: producer.Retry{Initial: 100 * time.Millisecond, Max: 500 * time.Millisecond}})
			start := time.Now()
			for _, k := range numbered("key", 2000) {
				require.NoError(t, p.PutAsync(t.Context(), rec(k, "x"), nil))
			}
			require.NoError(t, p.Flush(t.Context()))
			require.NoError(t, p.Shutdown(t.Context()))
			return p.Stats().Errors["throughput exceeded"], time.Since(start)
		}
		without, _ := run(producer.ShardRate{})
		with, elapsed := run(producer.ShardRate{Records: 400})
		assert.Less(t, with*10, without, "the rate is lowered to what the sink takes")
		assert.Less(t, elapsed, 40*time.Second, "and is raised again: 2,000 records at 100 a second take 20 seconds")
		close(done)
	})
}

func TestLimitedRecordsEndWithTheProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{ShardRate: producer.ShardRate{Records: 1}})
		var o outcomes
		for _, n := range numbered("", 100) {
			o.put(t, p, n, n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
		defer cancel()
		var incomplete *producer.IncompleteError
		require.ErrorAs(t, p.Shutdown(ctx), &incomplete)
		assert.Equal(t, 90, incomplete.Left)
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Len(t, o.list(), 100)
		assert.Len(t, c.names(), 10)

		p = newProducer(t, c, &producer.Options{ShardRate: producer.ShardRate{Records: 1}}) // and with their time
		o = outcomes{}
		for _, n := range numbered("", 100) {
			o.put(t, p, n, n)
		}
		require.NoError(t, p.Flush(t.Context()))
		require.ErrorIs(t, o.err(t, "99"), producer.ErrTTLExpired)
		assert.InDelta(t, 30, float64(p.Stats().Put), 1)
		require.NoError(t, p.Shutdown(t.Context()))
		requireNoGoroutines(t)
	})
}

// Records that wait for a shard that is split go to its children.
func TestLimitedShardIsSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{ShardRate: producer.ShardRate{Records: 10}, TTL: time.Hour, Aggregation: producer.Aggregation{Enabled: true, MaxCount: 2}})
		for _, k := range numbered("key", 400) {
			require.NoError(t, p.PutAsync(t.Context(), rec(k, k), nil))
		}
		time.Sleep(5 * time.Second)
		c.mu.Lock()
		c.split(c.open()[0])
		c.mu.Unlock()
		start := time.Now()
		require.NoError(t, p.Flush(t.Context()))
		assert.Less(t, time.Since(start), 12*time.Second, "two shards take twice as much")
		assert.ElementsMatch(t, numbered("key", 400), c.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}
