package producer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// Scenario 66.
func TestScenario66OneOf500Throttled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if n == 0 {
				return sink.failing(records, throttled(time.Second), 123), nil
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{Linger: time.Minute})
		var o outcomes
		for i, n := range numbered("", 500) {
			o.put(t, p, fmt.Sprint("key", i), n)
		}
		synctest.Wait()
		assert.Len(t, o.list(), 499)
		start := time.Now()
		o.put(t, p, "key123", "later of the key")
		_, err := p.Put(t.Context(), rec("key7", "other"))
		require.NoError(t, err)
		assert.Equal(t, start, time.Now(), "other keys do not wait")
		assert.Len(t, o.list(), 499, "later records of the key do")
		require.NoError(t, p.Flush(t.Context()))
		assert.GreaterOrEqual(t, time.Since(start), time.Second, "the sink's advice is taken")
		assert.Equal(t, [][]string{{"other"}, {"123", "later of the key"}}, sink.requests()[1:])
		res := o.res["123"]
		assert.Equal(t, 2, res.Sends)
		require.Len(t, res.Attempts, 2)
		require.ErrorIs(t, res.Attempts[0].Err, shardlog.ErrThroughputExceeded)
		s := p.Stats()
		assert.EqualValues(t, 1, s.Retries)
		assert.Equal(t, map[string]uint64{"throughput exceeded": 1}, s.Errors)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Scenario 67, without idempotence: a duplicate, never a loss.
func TestScenario67RequestTimesOutButWasStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []func(context.Context) error{
			func(ctx context.Context) error { return ctx.Err() },
			func(ctx context.Context) error { return fmt.Errorf("client: %w", context.Cause(ctx)) },
			func(ctx context.Context) error { return errors.Join(shardlog.ErrUnknownOutcome, ctx.Err()) },
		} {
			sink := &fakeSink{}
			sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
				res := sink.store(records)
				if n == 0 {
					<-ctx.Done()
					return nil, answer(ctx)
				}
				return res, nil
			}
			p := newProducer(t, sink, &producer.Options{RequestTimeout: time.Second})
			res, err := p.Put(t.Context(), rec("k", "a"))
			require.NoError(t, err)
			assert.Equal(t, 2, res.Sends)
			require.ErrorIs(t, res.Attempts[0].Err, shardlog.ErrUnknownOutcome)
			assert.Equal(t, []string{"a", "a"}, sink.names())
			assert.EqualValues(t, 2, counterOf(res.Sequence))
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

// Scenario 68.
func TestScenario68TTLPassesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if n == 0 {
				return nil, sleep(ctx, time.Hour)
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, nil)
		start := time.Now()
		_, err := p.Put(t.Context(), rec("k", "a"))
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		require.NotErrorIs(t, err, producer.ErrTTLExpired)
		assert.Equal(t, 30*time.Second, time.Since(start))
		_, err = p.Put(t.Context(), rec("k", "b"))
		require.NoError(t, err, "the request was cancelled, so its key is free")
		assert.EqualValues(t, 1, p.Stats().Expired)
		require.NoError(t, p.Shutdown(t.Context()))
		requireNoGoroutines(t)
	})
}

func TestTTLPassesWhileTheSinkIsDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if n == 0 {
				time.Sleep(time.Minute)
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{TTL: 10 * time.Second})
		var o outcomes
		o.put(t, p, "k", "a")
		synctest.Wait()
		o.put(t, p, "k", "b")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.ErrorIs(t, o.err(t, "a"), shardlog.ErrUnknownOutcome)
		err := o.err(t, "b")
		require.ErrorIs(t, err, producer.ErrTTLExpired, "was never sent")
		require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome)
		assert.Equal(t, []string{"a", "b"}, o.list())
		time.Sleep(40 * time.Second)
		o.put(t, p, "k", "c")
		require.NoError(t, p.Flush(t.Context()))
		assert.Equal(t, []string{"a", "c"}, sink.names(), "the key waits for the end of the request")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestTTLBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cause := range []error{errThrottled, shardlog.ErrUnknownOutcome} {
			sink := &fakeSink{}
			sink.on = func(context.Context, int, []shardlog.Record) ([]shardlog.PutResult, error) { return nil, cause }
			p := newProducer(t, sink, nil)
			start := time.Now()
			res, err := p.Put(t.Context(), rec("k", "a"))
			require.ErrorIs(t, err, cause)
			assert.Equal(t, cause == errThrottled, errors.Is(err, producer.ErrTTLExpired), "%v", err)
			assert.Equal(t, cause != errThrottled, errors.Is(err, shardlog.ErrUnknownOutcome), "%v", err)
			assert.Equal(t, 30*time.Second, time.Since(start))
			assert.Greater(t, res.Sends, 10)
			assert.Len(t, res.Attempts, 8)
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

func TestBackoffGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(context.Context, int, []shardlog.Record) ([]shardlog.PutResult, error) { return nil, errThrottled }
		p := newProducer(t, sink, &producer.Options{TTL: -1, MaxAttempts: 100, Retry: producer.Retry{Initial: 100 * time.Millisecond, Max: 800 * time.Millisecond}})
		_, err := p.Put(t.Context(), rec("k", "a"))
		require.ErrorIs(t, err, shardlog.ErrThroughputExceeded)
		require.Len(t, sink.calls, 100)
		var longest time.Duration
		for i := 1; i < 100; i++ {
			pause := sink.calls[i].at.Sub(sink.calls[i-1].at)
			longest = max(longest, pause)
			bound := min(100*time.Millisecond<<min(i-1, 10), 800*time.Millisecond)
			require.LessOrEqual(t, pause, bound+time.Microsecond, "pause %d", i)
		}
		assert.Greater(t, longest, 400*time.Millisecond, "jitter over the whole range")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestPermanentErrorFailsItsRecordOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cause := range []error{
			&shardlog.InvalidError{Field: "Data", Limit: "good"}, shardlog.ErrConflict, errors.New("unheard of"),
			errors.Join(shardlog.ErrUnknownOutcome, shardlog.ErrStorage),
		} {
			sink := &fakeSink{}
			sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
				return sink.failing(records, cause, 1), nil
			}
			p := newProducer(t, sink, nil)
			start := time.Now()
			_, err := p.PutBatch(t.Context(), []shardlog.Record{rec("k", "a"), rec("k", "b"), rec("k", "c")})
			var batch *producer.BatchError
			require.ErrorAs(t, err, &batch)
			require.ErrorIs(t, batch.Errors[1], cause)
			require.NoError(t, errors.Join(batch.Errors[0], batch.Errors[2]))
			assert.Equal(t, start, time.Now())
			assert.Equal(t, []string{"a", "c"}, sink.names())
			assert.Zero(t, p.Stats().Reordered)
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

func TestWholeCallErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for cause, retried := range map[error]bool{
			shardlog.ErrNoSpace: true, errThrottled: true, shardlog.ErrUnknownOutcome: true,
			shardlog.ErrClosed: false, shardlog.ErrNotFound: false, shardlog.ErrStorage: false,
		} {
			sink := &fakeSink{}
			sink.on = func(_ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
				if n == 0 {
					return nil, &shardlog.Error{Op: "put", Stream: "s", Err: cause}
				}
				return sink.store(records), nil
			}
			p := newProducer(t, sink, nil)
			_, err := p.PutBatch(t.Context(), []shardlog.Record{rec("k", "a"), rec("l", "b"), rec("k", "c")})
			if retried {
				require.NoError(t, err)
				assert.Equal(t, [][]string{{"a", "b", "c"}, {"a", "c", "b"}}, sink.requests(), "together again, keys in order")
			} else {
				require.ErrorIs(t, err, cause)
				assert.Len(t, sink.requests(), 1)
			}
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

// A stream refuses a whole call for one record that is larger than its own
// limit; the others must not suffer.
func TestPoisonInAWholeCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			for i := range records {
				if len(records[i].Data) > 20 {
					return nil, &shardlog.Error{Op: "put", Err: &shardlog.InvalidError{Field: fmt.Sprintf("records[%d].Data", i), Limit: "20"}}
				}
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{Linger: time.Second, MaxAttempts: 1})
		var o outcomes
		for i, n := range numbered("", 500) {
			if i == 321 {
				n = "a record that is much too large"
			}
			o.put(t, p, fmt.Sprint("key", i%10), n)
		}
		require.NoError(t, p.Shutdown(t.Context()))
		require.ErrorIs(t, o.err(t, "a record that is much too large"), shardlog.ErrInvalid)
		assert.Len(t, sink.names(), 499)
		s := p.Stats()
		assert.EqualValues(t, 1, s.Failed)
		assert.Zero(t, s.Retries, "halving costs no attempt")
		assert.LessOrEqual(t, s.Requests, uint64(2*9+10))
		requireKeysInOrder(t, sink)
	})
}

// requireKeysInOrder is for names that are numbers.
func requireKeysInOrder(t *testing.T, sink *fakeSink) {
	t.Helper()
	last := map[string]int{}
	for _, r := range sink.stored {
		var n int
		_, err := fmt.Sscan(string(r.Data), &n)
		require.NoError(t, err)
		prev, ok := last[r.PartitionKey]
		require.True(t, !ok || prev < n, "%s: %d after %d", r.PartitionKey, n, prev)
		last[r.PartitionKey] = n
	}
}

// Scenario 73.
func TestScenario73ResultCountDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 4} {
			sink := &fakeSink{}
			sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
				return sink.store(append(records, records...))[:n], nil
			}
			p := newProducer(t, sink, &producer.Options{MaxAttempts: 3})
			res, err := p.PutBatch(t.Context(), []shardlog.Record{rec("k", "a"), rec("k", "b")})
			require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
			var batch *producer.BatchError
			require.ErrorAs(t, err, &batch)
			for i := range res {
				require.ErrorIs(t, batch.Errors[i], shardlog.ErrUnknownOutcome)
				assert.Equal(t, 3, res[i].Sends)
				assert.Zero(t, res[i].Sequence)
			}
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

func TestUnknownOutcomeIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if n == 0 {
				sink.store(records)
				return nil, shardlog.ErrUnknownOutcome
			}
			return nil, shardlog.ErrNotFound
		}
		p := newProducer(t, sink, nil)
		_, err := p.Put(t.Context(), rec("k", "a"))
		require.ErrorIs(t, err, shardlog.ErrNotFound)
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome, "it is stored, after all")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestOrderOverASinkThatDoesNotKeepIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, order := range []producer.Order{producer.OrderStrict, producer.OrderPerKey} {
			sink := &fakeSink{}
			sink.on = func(_ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
				if n%2 == 1 {
					return sink.store(records), nil
				}
				return sink.failing(records, errThrottled, n%len(records)), nil
			}
			p := newProducer(t, sink, &producer.Options{Order: order, Linger: time.Second, TTL: -1})
			var o outcomes
			names := numbered("", 20)
			for _, n := range names[:10] {
				o.put(t, p, "k", n)
				o.put(t, p, "l", n+"00")
			}
			require.NoError(t, p.Flush(t.Context()))
			if order == producer.OrderPerKey {
				assert.EqualValues(t, 9, p.Stats().Reordered, "noticed")
				var ofK []string
				for _, n := range o.list() {
					if len(n) == 1 {
						ofK = append(ofK, n)
					}
				}
				assert.Equal(t, names[:10], ofK, "the results come in order all the same")
				sink.stored = nil
			}
			for _, n := range names[10:] {
				o.put(t, p, "k", n)
			}
			require.NoError(t, p.Shutdown(t.Context()))
			requireKeysInOrder(t, sink)
			if order == producer.OrderStrict {
				assert.Zero(t, p.Stats().Reordered)
			}
		}
	})
}

func TestSinkPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			switch string(records[0].Data) {
			case "panic":
				panic(errors.New("a bug"))
			case "exit":
				runtime.Goexit()
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, nil)
		_, err := p.Put(t.Context(), rec("k", "panic"))
		var panicked *producer.PanicError
		require.ErrorAs(t, err, &panicked)
		assert.Contains(t, string(panicked.Stack), "retry_test.go")
		require.ErrorContains(t, err, "a bug")
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		_, err = p.Put(t.Context(), rec("k", "exit"))
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		_, err = p.Put(t.Context(), rec("k", "fine"))
		require.NoError(t, err)
		assert.Equal(t, map[string]uint64{"panic": 2}, p.Stats().Errors)
		require.NoError(t, p.Shutdown(t.Context()))
		requireNoGoroutines(t)
	})
}
