package producer_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

func TestStatsAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			_ = sleep(ctx, 30*time.Millisecond)
			switch n {
			case 0:
				return sink.failing(records, throttled(100*time.Millisecond), 0), nil
			case 1:
				return nil, shardlog.ErrWrongShard
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{Linger: 20 * time.Millisecond})
		var o outcomes
		for _, n := range numbered("", 10) {
			o.put(t, p, n, n)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 10*time.Millisecond, p.Stats().OldestAge)
		require.NoError(t, p.Shutdown(t.Context()))
		s := p.Stats()
		assert.EqualValues(t, 10, s.Received)
		assert.EqualValues(t, 9, s.Put)
		assert.EqualValues(t, 9*2, s.PutBytes)
		assert.EqualValues(t, 9, s.Stored)
		assert.EqualValues(t, 9*2, s.StoredBytes)
		assert.EqualValues(t, 1, s.Failed)
		assert.Equal(t, map[string]uint64{"throughput exceeded": 1, "wrong shard": 1}, s.Errors)
		assert.EqualValues(t, 2, s.AllErrors)
		assert.Equal(t, producer.Distribution[time.Duration]{Count: 10, Sum: 100 * time.Millisecond, Min: 10 * time.Millisecond, Max: 10 * time.Millisecond}, s.Buffering)
		assert.Equal(t, producer.Distribution[time.Duration]{Count: 2, Sum: 60 * time.Millisecond, Min: 30 * time.Millisecond, Max: 30 * time.Millisecond}, s.RequestTime)
		assert.Equal(t, producer.Distribution[int64]{Count: 1, Sum: 1, Min: 1, Max: 1}, s.RetriesPerRecord)
		assert.Equal(t, producer.Distribution[int64]{Count: 9, Sum: 9, Min: 1, Max: 1}, s.RecordsPerStored)
		assert.Equal(t, producer.Distribution[int64]{Count: 2, Sum: 11, Min: 1, Max: 10}, s.StoredPerRequest)
		assert.Equal(t, s.StoredPerRequest, s.RecordsPerRequest)
		assert.InDelta(t, 5.5, s.StoredPerRequest.Mean(), 0)
		assert.Zero(t, producer.Stats{}.Buffering.Mean())
	})
}

func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			_ = sleep(ctx, time.Second)
			if n == 0 {
				return nil, throttled(time.Second)
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, nil)
		start := time.Now()
		res, err := p.Put(t.Context(), rec("k", "a"))
		require.NoError(t, err)
		require.Len(t, res.Attempts, 2)
		assert.Equal(t, start, res.Attempts[0].Time)
		assert.Equal(t, time.Second, res.Attempts[0].Duration)
		require.ErrorIs(t, res.Attempts[0].Err, shardlog.ErrThroughputExceeded)
		assert.InDelta(t, 2, res.Attempts[1].Time.Sub(start).Seconds(), 0.001)
		assert.Equal(t, time.Second, res.Attempts[1].Duration)
		require.NoError(t, res.Attempts[1].Err)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

type ctxKey struct{}

func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		c.script = func(ctx context.Context, n int, _ *shardlog.PutRequest) (bool, error) {
			assert.Equal(t, "span", ctx.Value(ctxKey{}), "the call has the hook's context")
			_ = sleep(ctx, time.Second)
			return n == 0, []error{shardlog.ErrUnknownOutcome, nil, nil}[n]
		}
		c.refuse = func(n, i int, _ *shardlog.Record, _ string) error {
			if n == 2 {
				return &shardlog.InvalidError{Field: "Data", Limit: "good"}
			}
			return nil
		}
		var mu sync.Mutex
		var infos []producer.RequestInfo
		var outcomes []producer.RequestOutcome
		shards := 0
		p := newProducer(t, c, &producer.Options{
			ID: "p", Aggregation: aggregating, Linger: soon,
			OnRequest: func(ctx context.Context, r producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
				mu.Lock()
				defer mu.Unlock()
				infos = append(infos, r)
				return context.WithValue(ctx, ctxKey{}, "span"), func(o producer.RequestOutcome) {
					mu.Lock()
					defer mu.Unlock()
					outcomes = append(outcomes, o)
				}
			},
			OnShards: func(open int, err error) {
				shards += open
				assert.NoError(t, err)
			},
		})
		putAll(t, p, []string{"k"}, []string{"a", "b", "c"})
		_, err := p.Put(t.Context(), rec("k", "bad"))
		require.ErrorIs(t, err, shardlog.ErrInvalid)
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Equal(t, 1, shards)
		require.Len(t, infos, 3)
		assert.Equal(t, producer.RequestInfo{Records: 1, UserRecords: 3, Bytes: infos[0].Bytes}, infos[0])
		assert.Equal(t, producer.RequestInfo{Records: 1, UserRecords: 3, Bytes: infos[0].Bytes, Resent: true}, infos[1])
		assert.Greater(t, infos[0].Bytes, 20)
		assert.Equal(t, producer.RequestOutcome{Duration: time.Second, Failed: 1, Err: shardlog.ErrUnknownOutcome}, outcomes[0])
		assert.Equal(t, producer.RequestOutcome{Duration: time.Second}, outcomes[1])
		assert.Equal(t, 1, outcomes[2].Failed)
		require.ErrorIs(t, outcomes[2].Err, shardlog.ErrInvalid)
	})
}

func TestHookPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProducer(t, &fakeSink{}, &producer.Options{
			OnRequest: func(context.Context, producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
				panic("hook")
			},
		})
		_, err := p.Put(t.Context(), rec("k", "a"))
		var panicked *producer.PanicError
		require.True(t, errors.As(err, &panicked))
		require.NoError(t, p.Shutdown(t.Context()))

		var log bytes.Buffer
		p = newProducer(t, newCluster(1, allCaps), &producer.Options{Aggregation: aggregating, Logger: textLogger(&log),
			OnRequest: func(ctx context.Context, _ producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
				return ctx, func(producer.RequestOutcome) { panic("outcome") }
			},
			OnShards: func(int, error) { panic("shards") },
		})
		_, err = p.Put(t.Context(), rec("k", "a"))
		require.NoError(t, err)
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Contains(t, log.String(), "panic=outcome")
		assert.Contains(t, log.String(), "panic=shards")
	})
}

// A request is started while another one is in flight only when that one takes
// longer than a sink in the same process.
func TestRequestsAreStaggered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			_ = sleep(ctx, time.Second)
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{MaxBatchRecords: 1, MaxInFlight: 3})
		start := time.Now()
		putAll(t, p, numbered("key", 6), numbered("", 6))
		assert.Equal(t, 2*time.Second+2*time.Millisecond, time.Since(start).Round(time.Millisecond))
		for i, c := range sink.calls {
			assert.Equal(t, time.Duration(i/3)*time.Second+time.Duration(i%3)*time.Millisecond, c.at.Sub(start).Round(100*time.Microsecond), "call %d", i)
		}
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Writers wait for a sink that keeps up, but not for one that stalls.
func TestWritersWaitForASinkThatKeepsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, took := range []time.Duration{time.Millisecond, time.Minute} {
			sink := &fakeSink{}
			sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
				_ = sleep(ctx, took)
				return sink.store(records), nil
			}
			p := newProducer(t, sink, &producer.Options{MaxBatchRecords: 10, TTL: time.Hour})
			most := 0
			start := time.Now()
			for _, k := range numbered("key", 1000) {
				require.NoError(t, p.PutAsync(t.Context(), rec(k, "x"), nil))
				most = max(most, p.Stats().Pending)
			}
			if took == time.Millisecond {
				assert.LessOrEqual(t, most, 100)
			} else {
				assert.Greater(t, most, 900)
				assert.Less(t, time.Since(start), time.Second)
			}
			for range 100 { // a call that does not wait is not refused for that
				require.NoError(t, p.TryPut(rec("k", "x"), nil))
			}
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}
