package consumer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// slow is a handler that takes d for each batch, or until its context ends.
func slow(k *sink, d time.Duration) consumer.Handler {
	return consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		k.note(b)
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			k.take(b.Records)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

// Scenario 40: shutdown in mid batch.
func TestScenario40ShutdownLetsHandlersFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 20)
		src.put(1, 20)
		r := start(t, src, slow(k, time.Minute), consumer.Options{Store: st, MaxBatchRecords: 10})
		time.Sleep(30 * time.Second)
		began := time.Now()
		require.NoError(t, r.Shutdown(context.Background()))
		assert.Equal(t, 30*time.Second, time.Since(began))
		require.NoError(t, r.result())
		for i := range 2 {
			assert.Equal(t, shardlog.After(seq(i, 9)), st.row(t, i).Checkpoint)
			assert.Empty(t, st.row(t, i).Owner, "released")
		}
		r = start(t, src, k, consumer.Options{Store: st})
		settle()
		assert.Len(t, k.got(), 40, "the second worker starts right there")
		assert.Equal(t, names(0, 0, 20), only(k.got(), "0/"))
		r.stop()
	})
}

func TestShutdownDeadlineCancelsHandlers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 10)
		var cause error
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			err := slow(k, time.Hour).Handle(ctx, b)
			cause = context.Cause(ctx)
			return err
		}), consumer.Options{Store: st})
		settle()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, r.Shutdown(ctx), context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(began))
		require.NoError(t, r.result())
		require.ErrorIs(t, cause, consumer.ErrShutdown)
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)
		assert.Empty(t, st.row(t, 0).Owner)
		require.NoError(t, r.Shutdown(ctx), "it has ended by now")
	})
}

// Scenario 39: what is done of a batch is kept when the patience is over.
func TestScenario39ShutdownInsideABatchKeepsWhatIsDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 10)
		r := start(t, src, consumer.Each(func(_ context.Context, rec shardlog.Record) error {
			time.Sleep(time.Second)
			k.take([]shardlog.Record{rec})
			return nil
		}), consumer.Options{Store: st})
		settle()
		ctx, cancel := context.WithTimeout(context.Background(), 4500*time.Millisecond)
		defer cancel()
		require.Error(t, r.Shutdown(ctx))
		require.NoError(t, r.result())
		assert.Equal(t, names(0, 0, 5), k.got())
		assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
	})
}

func TestEndOfRunsContextIsAShutdown(t *testing.T) {
	for _, c := range []struct{ handler, took time.Duration }{{10 * time.Second, 10 * time.Second}, {time.Hour, 30 * time.Second}} {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(1), newStore(), &sink{}
			src.put(0, 10)
			r := start(t, src, slow(k, c.handler), consumer.Options{Store: st})
			settle()
			began := time.Now()
			r.cancel()
			require.NoError(t, r.result())
			assert.Equal(t, c.took, time.Since(began))
			assert.Equal(t, c.handler < 30*time.Second, st.row(t, 0).Checkpoint == shardlog.After(seq(0, 9)))
			assert.Empty(t, st.row(t, 0).Owner)
		})
	}
}

func TestRunWithAnEndedContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, err := consumer.New(newSource(1), &consumer.Options{Store: newStore()})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, c.Run(ctx, &sink{}))
	})
}

func TestCloseGivesUpAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 10)
		r := start(t, src, slow(k, time.Hour), consumer.Options{Store: st})
		settle()
		writes := st.updateCount()
		began := time.Now()
		require.NoError(t, r.Close())
		require.NoError(t, r.Close())
		require.ErrorIs(t, r.result(), shardlog.ErrClosed)
		assert.Zero(t, time.Since(began))
		assert.Equal(t, writes, st.updateCount(), "nothing is written any more")
		require.NoError(t, r.Shutdown(context.Background()))
	})
}

func TestHandlerThatIgnoresItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(2), newStore()
		src.put(1, 10)
		release := make(chan struct{})
		r := start(t, src, consumer.HandlerFunc(func(context.Context, *consumer.Batch) error {
			<-release
			return nil
		}), consumer.Options{Store: st})
		settle()
		began := time.Now()
		require.NoError(t, r.Close())
		err := r.result()
		require.ErrorIs(t, err, consumer.ErrHandlerStuck)
		require.ErrorIs(t, err, shardlog.ErrClosed)
		assert.ErrorContains(t, err, shardID(1))
		assert.NotContains(t, err.Error(), shardID(0))
		assert.Equal(t, 5*time.Second, time.Since(began))
		close(release)
		settle()
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 1).Checkpoint, "too late")
	})
}

// Each way to stop is called from each place that belongs to the consumer.
func TestStopFromInside(t *testing.T) {
	type stopper struct {
		name string
		stop func(ctx context.Context, c *consumer.Consumer) error
	}
	stoppers := []stopper{
		{"Shutdown with the handler's context", func(ctx context.Context, c *consumer.Consumer) error { return c.Shutdown(ctx) }},
		{"Shutdown with a derived context", func(ctx context.Context, c *consumer.Consumer) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return c.Shutdown(ctx)
		}},
		{"Shutdown without", func(_ context.Context, c *consumer.Consumer) error { return c.Shutdown(context.Background()) }},
		{"Shutdown in another goroutine", func(ctx context.Context, c *consumer.Consumer) error {
			err := make(chan error)
			go func() { err <- c.Shutdown(ctx) }()
			return <-err
		}},
		{"Close", func(_ context.Context, c *consumer.Consumer) error { return c.Close() }},
		{"Shutdown and Close", func(ctx context.Context, c *consumer.Consumer) error {
			c.Stats()
			return errors.Join(c.Shutdown(context.Background()), c.Close(), c.Shutdown(ctx))
		}},
	}
	for _, s := range stoppers {
		t.Run(s.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, k := newSource(2), &sink{}
				src.put(0, 10)
				src.put(1, 10)
				c := make(chan *consumer.Consumer, 1)
				r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
					if b.ShardID == shardID(1) {
						return slow(k, 10*time.Second).Handle(ctx, b)
					}
					time.Sleep(time.Second)
					return s.stop(ctx, <-c)
				}), consumer.Options{Store: newStore()})
				c <- r.Consumer
				if err := r.result(); err != nil {
					require.ErrorIs(t, err, shardlog.ErrClosed)
				} else {
					assert.Equal(t, names(1, 0, 10), k.got(), "the other shard's handler was not cut short")
				}
			})
		})
		if s.name == "Shutdown in another goroutine" {
			continue // with no context of the handler there, it would wait
		}
		for _, kind := range []consumer.EventKind{
			consumer.EventLeaseTaken, consumer.EventShardStarted, consumer.EventCheckpoint,
			consumer.EventHandlerFailed, consumer.EventShardEnded, consumer.EventShardReleased,
		} {
			t.Run(s.name+" in the event "+string(kind), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					src := newSource(2)
					src.put(0, 10)
					src.put(1, 10)
					src.split(1)
					c := make(chan *consumer.Consumer, 1)
					var once sync.Once
					seen := false
					r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
						if b.Attempt == 1 {
							return errBroken
						}
						return nil
					}), consumer.Options{Store: newStore(), OnEvent: func(e consumer.Event) {
						if e.Kind == kind {
							once.Do(func() {
								seen = true
								assert.NoError(t, s.stop(context.Background(), <-c))
							})
						}
					}})
					c <- r.Consumer
					time.Sleep(time.Minute)
					r.cancel()
					if err := r.result(); err != nil {
						require.ErrorIs(t, err, shardlog.ErrClosed)
					}
					assert.True(t, seen)
				})
			})
		}
	}
}

func TestRunOnlyOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newSource(1), &sink{}, consumer.Options{Store: newStore()})
		settle()
		require.ErrorIs(t, r.Run(context.Background(), &sink{}), shardlog.ErrConflict)
		r.stop()
		require.ErrorIs(t, r.Run(context.Background(), &sink{}), shardlog.ErrClosed)
	})
}

func TestStopBeforeRun(t *testing.T) {
	for _, stop := range []func(*consumer.Consumer) error{
		func(c *consumer.Consumer) error { return c.Shutdown(context.Background()) },
		func(c *consumer.Consumer) error { return c.Close() },
	} {
		c, err := consumer.New(newSource(1), &consumer.Options{Store: newStore()})
		require.NoError(t, err)
		assert.Empty(t, c.Stats().Shards)
		require.NoError(t, stop(c))
		require.ErrorIs(t, c.Run(context.Background(), &sink{}), shardlog.ErrClosed)
	}
}

func TestRunNeedsAHandler(t *testing.T) {
	c, err := consumer.New(newSource(1), &consumer.Options{Store: newStore()})
	require.NoError(t, err)
	require.ErrorIs(t, c.Run(context.Background(), nil), shardlog.ErrInvalid)
}

func TestManyStopAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(4), &sink{}
		for i := range 4 {
			src.put(i, 100)
		}
		r := start(t, src, slow(k, time.Second), consumer.Options{Store: newStore(), MaxBatchRecords: 10})
		time.Sleep(5 * time.Second)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { assert.NoError(t, r.Shutdown(context.Background())) })
			wg.Go(func() { r.Stats() })
		}
		wg.Wait()
		require.NoError(t, r.result())
	})
}

// While the handler waits for its next attempt, a shutdown does not wait.
func TestShutdownDuringBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 1)
		r := start(t, src, consumer.HandlerFunc(func(context.Context, *consumer.Batch) error { return errBroken }),
			consumer.Options{Store: st, Retry: consumer.Retry{Initial: time.Hour, Max: time.Hour}})
		settle()
		began := time.Now()
		r.stop()
		assert.Zero(t, time.Since(began))
		assert.Empty(t, st.row(t, 0).Owner)
	})
}

func TestShutdownWithTheStoreDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		st.onUpdate(func(checkpoint.Lease) (bool, error) { return false, checkpoint.ErrUnavailable })
		src.put(0, 1)
		settle()
		began := time.Now()
		r.cancel()
		err := r.result()
		require.ErrorIs(t, err, checkpoint.ErrUnavailable)
		assert.ErrorContains(t, err, "the row was not written")
		assert.Equal(t, 35*time.Second, time.Since(began).Round(time.Second))
	})
}
