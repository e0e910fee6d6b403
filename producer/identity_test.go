package producer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// Scenario 67, with an identity: stored once.
func TestScenario67LostAnswerWithIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, agg := range []bool{false, true} {
			c := newCluster(2, allCaps)
			c.script = timesOut(0, 1)
			p := newProducer(t, c, &producer.Options{ID: "p", Linger: soon, Aggregation: producer.Aggregation{Enabled: agg}})
			names := numbered("", 20)
			o := &outcomes{}
			for i, n := range names {
				o.put(t, p, fmt.Sprint("key", i), n)
			}
			done := make(chan error, 1)
			go func() { done <- p.Flush(context.Background()) }()
			time.Sleep(time.Nanosecond)
			o.put(t, p, "key3", "later of a key in the request") // waits for it
			o.put(t, p, "another", "other")                      // does not
			require.NoError(t, <-done)
			require.NoError(t, p.Flush(t.Context()))
			for _, n := range names {
				require.NoError(t, o.err(t, n))
				assert.True(t, o.res[n].Duplicate)
				require.ErrorIs(t, o.res[n].Attempts[0].Err, shardlog.ErrUnknownOutcome)
			}
			assert.Len(t, c.names(), 22, "each once")
			stored := map[string]string{}
			for _, r := range c.records() {
				for _, u := range r.users {
					stored[string(u.Data)] = r.shard + r.res.Sequence.String()
				}
			}
			for _, n := range append(names, "other", "later of a key in the request") {
				assert.Equal(t, stored[n], o.res[n].ShardID+o.res[n].Sequence.String(), "the first one's place")
			}
			assert.Equal(t, 1, c.opens)
			require.NoError(t, p.Shutdown(t.Context()))
			requireNoGoroutines(t)
		}
	})
}

// The request is sent again as it was, also when some of its records have been
// given up, and the shards have changed meanwhile.
func TestResentRequestIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		var sent [][]string
		var numbers [][]uint64
		c.script = func(_ context.Context, n int, req *shardlog.PutRequest) (bool, error) {
			var data []string
			for i := range req.Records {
				data = append(data, string(req.Records[i].Data))
			}
			sent, numbers = append(sent, data), append(numbers, append([]uint64{}, req.Numbers...))
			if n == 0 {
				c.mu.Lock()
				c.split(c.open()[0])
				c.mu.Unlock()
			}
			if n < 2 {
				return false, shardlog.ErrUnknownOutcome
			}
			return false, nil
		}
		p := newProducer(t, c, &producer.Options{ID: "p", Linger: time.Millisecond, Aggregation: aggregating, Retry: producer.Retry{Initial: time.Second}})
		var o outcomes
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		defer cancel()
		for i, n := range numbered("", 9) {
			o.put(t, p, fmt.Sprint("key", i), n)
		}
		_, err := p.Put(ctx, rec("given up", "given up"))
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		require.NoError(t, p.Flush(t.Context()))
		require.GreaterOrEqual(t, len(sent), 4)
		assert.Equal(t, sent[0], sent[1])
		assert.Equal(t, sent[0], sent[2], "byte for byte")
		assert.Equal(t, numbers[0], numbers[2])
		assert.NotEqual(t, numbers[0], numbers[3], "refused for the wrong shard, it is certain not to be stored")
		assert.ElementsMatch(t, numbered("", 9), c.names(), "and is taken apart without the one that was given up")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Scenario 74.
func TestScenario74TwoProducersWithOneIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, allCaps)
		older := newProducer(t, c, &producer.Options{ID: "p"})
		_, err := older.Put(t.Context(), rec("k", "of the older"))
		require.NoError(t, err)
		newer := newProducer(t, c, &producer.Options{ID: "p"})
		_, err = newer.Put(t.Context(), rec("k", "of the newer"))
		require.NoError(t, err)

		var o outcomes
		for i, n := range numbered("", 30) {
			// Once one has met the fence, the others are refused immediately.
			if err := older.PutAsync(t.Context(), rec(fmt.Sprint("key", i%3), n), o.callback(n)); err != nil {
				o.callback(n)(producer.Result{}, err)
			}
		}
		require.NoError(t, older.Shutdown(t.Context()))
		for _, n := range numbered("", 30) {
			require.ErrorIs(t, o.err(t, n), shardlog.ErrFenced)
			require.NotErrorIs(t, o.err(t, n), shardlog.ErrUnknownOutcome)
		}
		_, err = older.Put(t.Context(), rec("k", "later"))
		require.ErrorIs(t, err, shardlog.ErrFenced)
		require.ErrorIs(t, older.TryPut(rec("k", "later"), nil), shardlog.ErrFenced)
		_, err = older.PutBatch(t.Context(), []shardlog.Record{rec("k", "later")})
		require.ErrorIs(t, err, shardlog.ErrFenced)
		_, err = newer.Put(t.Context(), rec("k", "again of the newer"))
		require.NoError(t, err)
		assert.Equal(t, []string{"of the older", "of the newer", "again of the newer"}, c.names())
		require.NoError(t, newer.Shutdown(t.Context()))
		requireNoGoroutines(t)
	})
}

func TestFencedWhileMuchIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		c.script = func(ctx context.Context, n int, _ *shardlog.PutRequest) (bool, error) {
			switch n {
			case 0: // is in doubt when the fence is met
				return true, shardlog.ErrUnknownOutcome
			case 1: // waits for a retry
				return false, throttled(time.Minute)
			case 2: // is at the sink
				return false, errors.Join(sleep(ctx, 5*time.Second))
			}
			return false, nil
		}
		p := newProducer(t, c, &producer.Options{ID: "p", Retry: producer.Retry{Initial: 20 * time.Second, Max: 20 * time.Second}, BufferRecords: 6})
		var o outcomes
		for _, n := range []string{"parked", "throttled", "in flight"} {
			o.put(t, p, n, n)
			synctest.Wait()
		}
		o.put(t, p, "in flight", "behind it")
		other := newProducer(t, c, &producer.Options{ID: "p"})
		_, err := other.Put(t.Context(), rec("k", "other"))
		require.NoError(t, err)
		o.put(t, p, "x", "meets the fence")
		o.put(t, p, "y", "meets the fence, too")
		_, err = p.Put(t.Context(), rec("z", "waits for room"))
		require.ErrorIs(t, err, shardlog.ErrFenced)
		require.NoError(t, p.Shutdown(t.Context()))
		for _, n := range o.list() {
			require.ErrorIs(t, o.err(t, n), shardlog.ErrFenced, n)
			assert.Equal(t, n == "parked", errors.Is(o.err(t, n), shardlog.ErrUnknownOutcome), n)
		}
		assert.Len(t, o.list(), 6)
		assert.ElementsMatch(t, []string{"parked", "other"}, c.names())
		assert.Zero(t, p.Stats().Pending)
		require.NoError(t, other.Shutdown(t.Context()))
		requireNoGoroutines(t)
	})
}

func TestOpeningTheIdentityIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			open func(ctx context.Context, n int) error
			want error
		}{
			{func(_ context.Context, n int) error { return []error{shardlog.ErrUnknownOutcome, errThrottled, nil}[n] }, nil},
			{func(ctx context.Context, n int) error {
				if n == 0 {
					return sleep(ctx, time.Hour)
				}
				return nil
			}, nil},
			{func(context.Context, int) error { return shardlog.ErrNotFound }, shardlog.ErrNotFound},
			{func(context.Context, int) error { panic("open") }, nil},
			{func(context.Context, int) error { exit(); return nil }, nil},
		} {
			c := &opening{cluster: newCluster(1, allCaps), open: tt.open}
			p := newProducer(t, c, &producer.Options{ID: "p", RequestTimeout: time.Second})
			_, err := p.Put(t.Context(), rec("k", "a"))
			if c.fails {
				require.Error(t, err)
			} else {
				require.ErrorIs(t, err, tt.want)
			}
			require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome, "the record was not sent")
			assert.Equal(t, err == nil, len(c.names()) == 1)
			require.NoError(t, p.Shutdown(t.Context()))
			requireNoGoroutines(t)
		}
	})
}

// opening is a cluster whose OpenProducer fails.
type opening struct {
	*cluster
	n     int
	fails bool
	open  func(ctx context.Context, n int) error
}

func (c *opening) OpenProducer(ctx context.Context, id string) (uint64, error) {
	c.fails = true
	n := c.n
	c.n++
	if err := c.open(ctx, n); err != nil {
		c.fails = !shardlog.Retryable(err) && ctx.Err() == nil
		return 0, err
	}
	c.fails = false
	return c.cluster.OpenProducer(ctx, id)
}

func TestForgottenIdentityIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{ID: "p"})
		_, err := p.Put(t.Context(), rec("k", "a"))
		require.NoError(t, err)
		c.forget("p")
		// The sink no longer recognizes what was sent before it forgot the identity.
		c.script = func(_ context.Context, n int, _ *shardlog.PutRequest) (bool, error) {
			if n == 1 {
				return false, shardlog.ErrUnknownOutcome
			}
			return false, nil
		}
		var o outcomes
		o.put(t, p, "k", "unknown")
		synctest.Wait()
		o.put(t, p, "k", "after it")
		require.NoError(t, p.Flush(t.Context()))
		require.ErrorIs(t, o.err(t, "unknown"), shardlog.ErrUnknownOutcome)
		require.NoError(t, o.err(t, "after it"))
		c.forget("p")
		_, err = p.Put(t.Context(), rec("k", "b"))
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "after it", "b"}, c.names())
		assert.Equal(t, 3, c.opens)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// The numbers in use are never too far apart: a record that gets no answer
// stops the others eventually, and lets them go when it is given up.
func TestNumbersStayClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		c.script = func(_ context.Context, _ int, req *shardlog.PutRequest) (bool, error) {
			if string(req.Records[0].Data) == "stuck" {
				return false, shardlog.ErrUnknownOutcome
			}
			if span := req.Numbers[len(req.Numbers)-1] - req.Done; span >= 1<<16 {
				t.Errorf("numbers %d apart", span)
			}
			return false, nil
		}
		p := newProducer(t, c, &producer.Options{ID: "p", TTL: time.Minute})
		var o outcomes
		o.put(t, p, "stuck", "stuck")
		synctest.Wait()
		const n = 1<<16 + 1000
		for range n {
			require.NoError(t, p.PutAsync(t.Context(), rec("k", "x"), nil))
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		assert.EqualValues(t, 1<<16-1, p.Stats().Put)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		require.ErrorIs(t, o.err(t, "stuck"), shardlog.ErrUnknownOutcome)
		require.NoError(t, p.Flush(t.Context()))
		s := p.Stats()
		assert.EqualValues(t, n, s.Put+s.Failed-1)
		assert.Zero(t, s.InFlight)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestIdentityNeedsASinkThatKnowsIt(t *testing.T) {
	for _, sink := range []shardlog.Sink{&fakeSink{}, newCluster(1, shardlog.Capabilities{RefusesMisrouted: true, DedupID: true})} {
		_, err := producer.New(sink, &producer.Options{ID: "p"})
		require.ErrorIs(t, err, shardlog.ErrUnsupported)
		var e *shardlog.Error
		require.ErrorAs(t, err, &e)
	}
}

// Scenario 75, the producer's part.
func TestScenario75DedupID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, allCaps)
		p := newProducer(t, c, nil)
		r := shardlog.Record{PartitionKey: "k", Data: []byte("a"), DedupID: "1"}
		first, err := p.Put(t.Context(), r)
		require.NoError(t, err)
		assert.False(t, first.Duplicate)
		second, err := p.Put(t.Context(), r)
		require.NoError(t, err)
		assert.True(t, second.Duplicate)
		assert.Equal(t, first.Sequence, second.Sequence)
		assert.Equal(t, first.ShardID, second.ShardID)
		assert.Equal(t, []string{"a"}, c.names())
		require.NoError(t, p.Shutdown(t.Context()))

		p = newProducer(t, &fakeSink{}, nil)
		_, err = p.Put(t.Context(), r)
		require.ErrorIs(t, err, shardlog.ErrUnsupported)
		for _, id := range []string{"\xff", string(make([]byte, 257))} {
			r.DedupID = id
			_, err = p.Put(t.Context(), r)
			var bad *shardlog.InvalidError
			require.ErrorAs(t, err, &bad)
			assert.Equal(t, "DedupID", bad.Field)
		}
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestCloseWhileARequestIsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		c.script = timesOut(0, 1, 2, 3)
		p := newProducer(t, c, &producer.Options{ID: "p", Retry: producer.Retry{Initial: time.Hour, Max: time.Hour}})
		var o outcomes
		o.put(t, p, "k", "parked")
		synctest.Wait()
		o.put(t, p, "k", "behind it")
		require.NoError(t, p.Close())
		require.NoError(t, p.Shutdown(t.Context()))
		require.ErrorIs(t, o.err(t, "parked"), shardlog.ErrUnknownOutcome)
		require.ErrorIs(t, o.err(t, "behind it"), shardlog.ErrClosed)
		require.NotErrorIs(t, o.err(t, "behind it"), shardlog.ErrUnknownOutcome)
		requireNoGoroutines(t)
	})
}
