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

// A call that returned an error has no later effect, or its error matches
// ErrUnknownOutcome. The tests of this file let each call that waits return
// early, in each place where its record can be, and check what happens later.

// endings are the places where a record can be when its call returns early. On
// is the sink's answer to the n-th request, which has a record of the call
// unless it is n 0.
var endings = map[string]struct {
	opts    producer.Options
	before  bool // a record of the same key is put before
	on      func(sink *fakeSink, ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error)
	unknown bool
}{
	"waits for room": {
		opts: producer.Options{BufferRecords: 1}, before: true,
		on: slowFirst,
	},
	"behind its key": {
		opts: producer.Options{}, before: true,
		on: slowFirst,
	},
	"waits for a retry": {
		opts: producer.Options{Retry: producer.Retry{Initial: time.Hour, Max: time.Hour}},
		on: func(sink *fakeSink, _ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if n == 0 {
				return nil, throttled(time.Hour)
			}
			return sink.store(records), nil
		},
	},
	"in a request": {
		opts:    producer.Options{},
		on:      slowFirst,
		unknown: true,
	},
	"waits for a retry after a lost answer": {
		opts: producer.Options{},
		on: func(sink *fakeSink, _ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if n == 0 {
				sink.store(records)
				return nil, &shardlog.Error{Op: "put", Err: shardlog.ErrUnknownOutcome, RetryAfter: time.Hour}
			}
			return sink.store(records), nil
		},
		unknown: true,
	},
}

// slowFirst is a sink whose first request takes ten seconds whatever its
// context does.
func slowFirst(sink *fakeSink, _ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if n == 0 {
		time.Sleep(10 * time.Second)
	}
	return sink.store(records), nil
}

func TestPutThatReturnsEarlyHasNoLaterEffect(t *testing.T) {
	puts := map[string]func(ctx context.Context, p *producer.Producer) error{
		"Put": func(ctx context.Context, p *producer.Producer) error {
			_, err := p.Put(ctx, rec("k", "mine"))
			return err
		},
		"PutBatch": func(ctx context.Context, p *producer.Producer) error {
			_, err := p.PutBatch(ctx, []shardlog.Record{rec("k", "mine")})
			return err
		},
	}
	for place, tt := range endings {
		for call, put := range puts {
			t.Run(call+" "+place, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sink := &fakeSink{}
					sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
						return tt.on(sink, ctx, n, records)
					}
					opts := tt.opts
					opts.TTL = -1
					p := newProducer(t, sink, &opts)
					if tt.before {
						require.NoError(t, p.PutAsync(t.Context(), rec("k", "before"), nil))
						synctest.Wait()
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					err := put(ctx, p)
					require.ErrorIs(t, err, context.DeadlineExceeded)
					stored := len(sink.names())
					time.Sleep(48 * time.Hour)
					synctest.Wait()
					if tt.unknown {
						require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
						assert.Contains(t, sink.names(), "mine", "which is why the error matches")
					} else {
						require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome)
						assert.NotContains(t, sink.names(), "mine")
					}
					assert.LessOrEqual(t, len(sink.names()), stored+1, "no attempt follows")
					assert.Zero(t, p.Stats().Pending)
					require.NoError(t, p.Shutdown(t.Context()))
				})
			})
		}
	}
}

func TestPutAsyncThatReturnsEarlyHasNoLaterEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, open := blocked(true)
		p := newProducer(t, sink, &producer.Options{BufferRecords: 1})
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "before"), nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.PutAsync(ctx, rec("k", "waits"), func(producer.Result, error) { t.Error("has a result") }), context.DeadlineExceeded)
		require.ErrorIs(t, p.TryPut(rec("k", "tried"), func(producer.Result, error) { t.Error("has a result") }), producer.ErrBufferFull)
		open()
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Equal(t, []string{"before"}, sink.names())
	})
}

// With an identity, an aggregate in doubt is sent again with all its records:
// also with one whose caller has left, whose error matches ErrUnknownOutcome.
func TestPutThatReturnsEarlyInDoubtWithOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		c.script = func(_ context.Context, n int, _ *shardlog.PutRequest) (bool, error) {
			if n == 1 {
				return false, &shardlog.Error{Op: "put", Err: shardlog.ErrUnknownOutcome, RetryAfter: time.Minute}
			}
			return true, nil
		}
		p := newProducer(t, c, &producer.Options{ID: "p", Aggregation: aggregating, TTL: -1, Linger: time.Second})
		_, err := p.Put(t.Context(), rec("warm", "up"))
		require.NoError(t, err)
		var o outcomes
		o.put(t, p, "k", "other")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = p.Put(ctx, rec("k", "mine"))
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		require.NoError(t, p.Flush(t.Context()))
		require.NoError(t, o.err(t, "other"))
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestFlushThatReturnsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		p := newProducer(t, sink, &producer.Options{Linger: time.Hour, TTL: -1})
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "a"), nil))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, p.Flush(ended), context.Canceled)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, sink.names(), "the record lingers as if there had been no Flush")
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, []string{"a"}, sink.names())
		require.NoError(t, p.Flush(ended), "there is nothing to wait for")

		sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			time.Sleep(10 * time.Second)
			return sink.store(records), nil
		}
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "b"), nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.Flush(ctx), context.DeadlineExceeded)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"a", "b"}, sink.names(), "what had begun continues")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestShutdownThatReturnsEarlySaysWhatIsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if records[0].PartitionKey == "throttled" {
				return nil, throttled(time.Hour)
			}
			time.Sleep(20 * time.Second) // ignores its context
			return sink.store(records), nil
		}
		for inFlight, want := range []error{context.DeadlineExceeded, shardlog.ErrUnknownOutcome} {
			p := newProducer(t, sink, &producer.Options{TTL: -1})
			require.NoError(t, p.PutAsync(t.Context(), rec("throttled", "never"), nil))
			synctest.Wait()
			if inFlight > 0 {
				require.NoError(t, p.PutAsync(t.Context(), rec("k", "late"), nil))
				synctest.Wait()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := p.Shutdown(ctx)
			cancel()
			var incomplete *producer.IncompleteError
			require.ErrorAs(t, err, &incomplete)
			assert.Equal(t, 1+inFlight, incomplete.Left)
			assert.Equal(t, inFlight, incomplete.InDoubt)
			require.ErrorIs(t, err, want)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, inFlight > 0, errors.Is(err, shardlog.ErrUnknownOutcome))
			time.Sleep(48 * time.Hour)
			synctest.Wait()
			require.NoError(t, p.Shutdown(t.Context()))
		}
		assert.Equal(t, []string{"late"}, sink.names())
	})
}

func TestShutdownThatReturnsEarlyDuringACallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProducer(t, &fakeSink{}, nil)
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "a"), func(producer.Result, error) { time.Sleep(time.Minute) }))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Shutdown(ctx)
		require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "shardlog: shutdown: every record has its result, but callbacks or requests have not returned: context deadline exceeded")
		require.NoError(t, p.Shutdown(t.Context()), "waits for the callback")
		requireNoGoroutines(t)
	})
}
