package producer_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// Scenario 69.
func TestScenario69ShutdownWithDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if records[0].PartitionKey == "throttled" {
				return sink.failing(records, throttled(time.Hour), 0), nil
			}
			time.Sleep(20 * time.Second) // ignores its context
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{MaxInFlight: 1})
		var o outcomes
		o.put(t, p, "throttled", "t")
		synctest.Wait()
		o.put(t, p, "k", "a")
		synctest.Wait()
		o.put(t, p, "k", "b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := p.Shutdown(ctx)
		var left *producer.IncompleteError
		require.ErrorAs(t, err, &left)
		assert.Equal(t, 3, left.Left)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(start))
		synctest.Wait()
		require.ErrorIs(t, o.err(t, "a"), shardlog.ErrUnknownOutcome)
		require.ErrorIs(t, o.err(t, "b"), shardlog.ErrClosed)
		require.ErrorIs(t, o.err(t, "t"), shardlog.ErrClosed)
		require.False(t, shardlog.Retryable(o.err(t, "t")))
		require.ErrorContains(t, o.err(t, "t"), "throughput exceeded")
		require.NoError(t, p.Shutdown(t.Context()), "waits for the request that ignores its context")
		assert.Equal(t, 20*time.Second, time.Since(start))
		assert.Equal(t, []string{"a"}, sink.names())
		assert.Equal(t, 3, len(o.list()))
		requireNoGoroutines(t)
	})
}

// Scenario 70.
func TestScenario70PutAfterClose(t *testing.T) {
	for name, end := range map[string]func(*producer.Producer) error{
		"close":    (*producer.Producer).Close,
		"shutdown": func(p *producer.Producer) error { return p.Shutdown(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProducer(t, &fakeSink{}, nil)
			for range 2 {
				require.NoError(t, end(p))
				_, err := p.Put(t.Context(), rec("k", "a"))
				require.ErrorIs(t, err, shardlog.ErrClosed)
				require.ErrorIs(t, p.PutAsync(t.Context(), rec("k", "a"), nil), shardlog.ErrClosed)
				require.ErrorIs(t, p.TryPut(rec("k", "a"), nil), shardlog.ErrClosed)
				require.ErrorIs(t, p.Flush(t.Context()), shardlog.ErrClosed)
			}
			require.NoError(t, p.Close())
			require.NoError(t, p.Shutdown(t.Context()))
			requireNoGoroutines(t)
		})
	}
}

// Scenario 70.
func TestScenario70PutRacesClose(t *testing.T) {
	for i := range 200 {
		sink := &fakeSink{}
		p := newProducer(t, sink, &producer.Options{BufferRecords: 4})
		var taken, called, refused atomic.Int64
		var wg sync.WaitGroup
		for _, w := range numbered("w", 4) {
			wg.Go(func() {
				for n := 0; n < 50; n++ {
					switch err := p.PutAsync(context.Background(), rec(w, w), func(producer.Result, error) { called.Add(1) }); {
					case err == nil:
						taken.Add(1)
					case errors.Is(err, shardlog.ErrClosed):
						refused.Add(1)
					default:
						t.Error(err)
					}
					if _, err := p.Put(context.Background(), rec(w, "sync")); err != nil && !errors.Is(err, shardlog.ErrClosed) && !errors.Is(err, shardlog.ErrUnknownOutcome) {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			time.Sleep(time.Duration(i) * time.Microsecond)
			if i%2 == 0 {
				assert.NoError(t, p.Close())
			} else {
				assert.NoError(t, p.Shutdown(context.Background()))
			}
		})
		wg.Wait()
		require.NoError(t, p.Shutdown(t.Context()))
		require.Equal(t, taken.Load(), called.Load(), "one result for each record that was taken")
		require.EqualValues(t, 200, taken.Load()+refused.Load())
	}
	requireNoGoroutines(t)
}

func TestCloseGivesUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, _ := blocked(false)
		p := newProducer(t, sink, &producer.Options{BufferRecords: 2, MaxInFlight: 1})
		var o outcomes
		o.put(t, p, "k", "in flight")
		synctest.Wait()
		o.put(t, p, "k", "queued")
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.ErrorIs(t, p.PutAsync(context.Background(), rec("k", "waits"), o.callback("waits")), shardlog.ErrClosed)
		})
		wg.Go(func() {
			_, err := p.Put(context.Background(), rec("k", "waits"))
			assert.ErrorIs(t, err, shardlog.ErrClosed)
		})
		wg.Go(func() { assert.NoError(t, p.Flush(context.Background())) })
		wg.Go(func() { assert.NoError(t, p.Shutdown(context.Background())) })
		synctest.Wait()
		require.NoError(t, p.Close())
		wg.Wait()
		require.ErrorIs(t, o.err(t, "in flight"), shardlog.ErrUnknownOutcome)
		require.ErrorIs(t, o.err(t, "queued"), shardlog.ErrClosed)
		assert.Len(t, o.list(), 2)
		requireNoGoroutines(t)
	})
}

func TestShutdownRefusesAndFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, open := blocked(false)
		p := newProducer(t, sink, &producer.Options{Linger: time.Hour})
		var o outcomes
		for _, n := range numbered("", 1200) {
			o.put(t, p, "k"+n[:1], n)
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { assert.NoError(t, p.Shutdown(context.Background())) })
		}
		synctest.Wait()
		require.ErrorIs(t, p.TryPut(rec("k", "x"), nil), shardlog.ErrClosed)
		open()
		wg.Wait()
		assert.Len(t, sink.names(), 1200)
		assert.Len(t, o.list(), 1200)
		requireKeysInOrder(t, sink)
		requireNoGoroutines(t)
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			time.Sleep(time.Second)
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{Linger: time.Minute})
		require.NoError(t, p.Flush(t.Context()), "nothing to do")
		var o outcomes
		o.put(t, p, "k", "a")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, p.Flush(ctx), context.DeadlineExceeded)
		go func() {
			time.Sleep(100 * time.Millisecond)
			o.put(t, p, "k", "after")
		}()
		require.NoError(t, p.Flush(t.Context()))
		assert.Equal(t, []string{"a"}, o.list(), "does not wait for what came later")
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Equal(t, []string{"a", "after"}, o.list())
	})
}

// Every method can be called from inside a callback, also with a full buffer,
// and nothing hangs.
func TestMethodsInsideACallback(t *testing.T) {
	ctx := context.Background()
	for name, call := range map[string]func(p *producer.Producer) error{
		"Flush":    func(p *producer.Producer) error { return p.Flush(ctx) },
		"Shutdown": func(p *producer.Producer) error { return p.Shutdown(ctx) },
		"Close":    func(p *producer.Producer) error { return p.Close() },
		"Stats":    func(p *producer.Producer) error { p.Stats(); return nil },
		"Put":      func(p *producer.Producer) error { _, err := p.Put(ctx, rec("k", "again")); return err },
		"PutAsync": func(p *producer.Producer) error { return p.PutAsync(ctx, rec("k", "again"), nil) },
		"TryPut":   func(p *producer.Producer) error { return p.TryPut(rec("k", "again"), nil) },
		"PutBatch": func(p *producer.Producer) error {
			_, err := p.PutBatch(ctx, []shardlog.Record{rec("k", "again"), rec("l", "again")})
			return err
		},
	} {
		for _, full := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				sink := &fakeSink{}
				p := newProducer(t, sink, &producer.Options{BufferRecords: 6, Linger: time.Second})
				var o outcomes
				var got error
				returned := false
				require.NoError(t, p.PutAsync(ctx, rec("k", "first"), func(producer.Result, error) {
					if full {
						for p.TryPut(rec("l", "fill"), nil) == nil {
						}
					}
					got = call(p)
					returned = true
				}))
				o.put(t, p, "k", "second")
				time.Sleep(2 * time.Second)
				synctest.Wait()
				require.True(t, returned, "%s, full %t", name, full)
				if full && (strings.HasPrefix(name, "Put") || name == "TryPut") {
					require.ErrorIs(t, got, producer.ErrBufferFull, name)
				} else {
					require.NoError(t, got, name)
				}
				require.NoError(t, p.Shutdown(ctx))
				assert.Equal(t, []string{"second"}, o.list())
				if name == "Put" && !full {
					assert.Equal(t, []string{"first", "second", "again"}, sink.names())
				}
				requireNoGoroutines(t)
			})
		}
	}
}

func TestShutdownInsideACallbackFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			time.Sleep(time.Second)
			return sink.store(records), nil
		}
		p := newProducer(t, sink, nil)
		var o outcomes
		var atReturn []string
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "a"), func(producer.Result, error) {
			o.put(t, p, "k", "b")
			assert.NoError(t, p.Shutdown(context.Background()))
			atReturn = sink.names()
		}))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"a", "b"}, atReturn)
		assert.Equal(t, []string{"b"}, o.list())
		requireNoGoroutines(t)
	})
}

func TestPanickingCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		p := newProducer(t, &fakeSink{}, &producer.Options{Logger: textLogger(&log), Linger: time.Second})
		var o outcomes
		o.put(t, p, "k", "a")
		mine := errors.New("oops")
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "b"), func(producer.Result, error) { panic(mine) }))
		o.put(t, p, "k", "c")
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "d"), func(producer.Result, error) { runtime.Goexit() }))
		o.put(t, p, "k", "e")
		require.NoError(t, p.Flush(t.Context()))
		assert.Equal(t, []string{"a", "c", "e"}, o.list(), "the others get theirs")
		assert.EqualValues(t, 1, p.Stats().CallbackPanics)
		err := p.Shutdown(t.Context())
		var panicked *producer.PanicError
		require.ErrorAs(t, err, &panicked)
		require.ErrorIs(t, err, mine)
		assert.Contains(t, string(panicked.Stack), "lifecycle_test.go")
		assert.Contains(t, log.String(), "oops")
		requireNoGoroutines(t)
	})
}

func TestCallbacksOfAKeyInOrder(t *testing.T) {
	sink := &fakeSink{}
	sink.on = func(_ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
		if n%3 == 0 {
			return nil, errThrottled
		}
		return sink.store(records), nil
	}
	p := newProducer(t, sink, &producer.Options{MaxBatchRecords: 7, Retry: producer.Retry{Initial: time.Microsecond}})
	var running atomic.Int32
	var wg sync.WaitGroup
	for _, k := range numbered("k", 5) {
		wg.Go(func() {
			last := -1
			for i := range 1000 {
				assert.NoError(t, p.PutAsync(context.Background(), rec(k, k), func(_ producer.Result, err error) {
					assert.NoError(t, err)
					assert.EqualValues(t, 1, running.Add(1), "one at a time")
					assert.Equal(t, last+1, i)
					last = i
					running.Add(-1)
				}))
			}
		})
	}
	wg.Wait()
	require.NoError(t, p.Shutdown(t.Context()))
	assert.EqualValues(t, 5000, p.Stats().Put)
}

func TestNoGoroutineWhileIdle(t *testing.T) {
	p := newProducer(t, &fakeSink{}, nil)
	requireNoGoroutines(t)
	_, err := p.Put(t.Context(), rec("k", "a"))
	require.NoError(t, err)
	requireNoGoroutines(t)
	require.NoError(t, p.PutAsync(t.Context(), rec("k", "b"), func(producer.Result, error) {}))
	require.NoError(t, p.Flush(t.Context()))
	requireNoGoroutines(t)
	require.NoError(t, p.Close())
}
