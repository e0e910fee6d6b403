package producer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
	"github.com/shardlog/shardlog/producer"
)

// badHandler is a slog.Handler that does not return.
type badHandler struct{ leave func() }

func (h badHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (h badHandler) Handle(context.Context, slog.Record) error { h.leave(); return nil }
func (h badHandler) WithAttrs([]slog.Attr) slog.Handler        { return h }
func (h badHandler) WithGroup(string) slog.Handler             { return h }

// addBadHooks sets hooks and a logger that sometimes do not return.
func addBadHooks(opts *producer.Options, chance func(n int) bool) {
	leave := func() {
		switch {
		case chance(5):
			exit()
		case chance(5):
			panic("a hook that panics")
		}
	}
	opts.Logger = slog.New(badHandler{func() {
		if chance(5) {
			panic("a logger that panics")
		}
	}})
	opts.OnRequest = func(ctx context.Context, _ producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
		return ctx, func(producer.RequestOutcome) { leave() }
	}
	opts.OnShards = func(int, error) { leave() }
}

// A test's hook that calls t.FailNow ends the goroutine it runs in. The
// producer continues anyway.
func TestHooksThatEndTheirGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, opts := range map[string]*producer.Options{
			"shards": {OnShards: func(int, error) { runtime.Goexit() }},
			"outcome": {OnRequest: func(ctx context.Context, _ producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
				return ctx, func(producer.RequestOutcome) { runtime.Goexit() }
			}},
		} {
			c := newCluster(2, allCaps)
			opts.Aggregation = aggregating
			p := newProducer(t, c, opts)
			o := putAll(t, p, numbered("key", 10), numbered("", 20))
			c.mu.Lock()
			for _, s := range c.open() { // the map is learned again, with results at hand
				c.split(s)
			}
			c.mu.Unlock()
			again := putAll(t, p, numbered("key", 10), numbered("again", 20))
			for _, o := range []*outcomes{o, again} {
				for n, err := range o.errs {
					assert.NoError(t, err, "%s: %s: what is known is not forgotten", name, n)
				}
			}
			require.NoError(t, p.Shutdown(t.Context()), name)
			requireNoGoroutines(t)
		}
	})
}

func TestLoggersThatDoNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, leave := range map[string]func(){"panics": func() { panic("logger") }, "exits": runtime.Goexit} {
			c := newCluster(1, allCaps)
			c.listed = func(int) error { return assert.AnError }
			c.script = func(_ context.Context, n int, _ *shardlog.PutRequest) (bool, error) {
				if n < 3 {
					return false, errThrottled
				}
				return false, nil
			}
			p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Logger: slog.New(badHandler{leave})})
			o := putAll(t, p, []string{"a", "b"}, numbered("", 10))
			for n, err := range o.errs {
				assert.NoError(t, err, "%s: %s", name, n)
			}
			called := 0
			require.NoError(t, p.PutAsync(t.Context(), rec("k", "x"), func(producer.Result, error) { panic("callback") }))
			require.NoError(t, p.PutAsync(t.Context(), rec("k", "y"), func(producer.Result, error) { called++ }))
			require.NoError(t, p.Flush(t.Context()))
			assert.Equal(t, 1, called)
			err := p.Shutdown(t.Context())
			var panicked *producer.PanicError
			require.ErrorAs(t, err, &panicked)
			if name == "panics" {
				assert.Equal(t, "logger", panicked.Value, "the first one")
			}
			requireNoGoroutines(t)
		}
	})
}

// The outcome that OnRequest gets when the sink ends its goroutine.
func TestOutcomeOfASinkThatExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(context.Context, int, []shardlog.Record) ([]shardlog.PutResult, error) { exit(); return nil, nil }
		var got producer.RequestOutcome
		p := newProducer(t, sink, &producer.Options{
			OnRequest: func(context.Context, producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
				return nil, func(o producer.RequestOutcome) { got = o }
			},
		})
		_, err := p.Put(t.Context(), rec("k", "a"))
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		require.ErrorIs(t, got.Err, shardlog.ErrUnknownOutcome)
		assert.Equal(t, 1, got.Failed)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Data that begins as an aggregate does is wrapped where readers expect
// aggregates, because they would decode it otherwise.
func TestMagicIsWrappedAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b kpl.Builder
		b.Add(kpl.UserRecord{PartitionKey: "inner", Data: bytes.Repeat([]byte("x"), 60_000)}, 1<<20)
		inner := b.Append(nil) // larger than Aggregation.MaxSize
		b.Reset()
		b.Add(kpl.UserRecord{PartitionKey: "inner", Data: []byte("x")}, 1<<20)
		small := b.Append(nil)
		for name, tt := range map[string]struct {
			rec    shardlog.Record
			listed func(int) error
			refuse func(n, i int, r *shardlog.Record, shard string) error
		}{
			"larger than MaxSize": {rec: shardlog.Record{PartitionKey: "k", Data: inner}},
			"with a dedup ID":     {rec: shardlog.Record{PartitionKey: "k", Data: small, DedupID: "1"}},
			"shards not known":    {rec: shardlog.Record{PartitionKey: "k", Data: small}, listed: func(int) error { return assert.AnError }},
			"taken apart": {rec: shardlog.Record{PartitionKey: "k", Data: small}, refuse: func(_, _ int, r *shardlog.Record, _ string) error {
				if u, _ := kpl.Decode(r.Data, nil); len(u) > 1 {
					return &shardlog.InvalidError{Field: "Data"}
				}
				return nil
			}},
		} {
			c := newCluster(1, allCaps)
			c.listed, c.refuse = tt.listed, tt.refuse
			p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
			var o outcomes
			require.NoError(t, p.PutAsync(t.Context(), tt.rec, o.callback("it")))
			o.put(t, p, "k", "other")
			require.NoError(t, p.Flush(t.Context()))
			require.NoError(t, o.err(t, "it"), name)
			assert.Equal(t, []string{string(tt.rec.Data), "other"}, c.names(), name)
			for _, r := range c.records() {
				if len(r.users) == 1 && string(r.users[0].Data) != "other" {
					assert.Equal(t, tt.rec.DedupID, r.rec.DedupID)
					assert.Equal(t, shardlog.KeyHash("k"), r.rec.ExplicitHashKey)
				}
			}
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

// A record that has to be wrapped is refused only when it does not fit wrapped.
func TestLimitOfAWrappedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, MaxRecordSize: 1000})
		_, err := p.Put(t.Context(), rec("k", kpl.Magic+strings.Repeat("x", 900)))
		require.NoError(t, err)
		_, err = p.Put(t.Context(), rec("k", kpl.Magic+strings.Repeat("x", 1000-5+1)))
		var bad *shardlog.InvalidError
		require.ErrorAs(t, err, &bad)
		assert.Equal(t, "Data", bad.Field)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// More records of a key than maxMoved wait for a request whose answer was lost,
// and go in order once its outcome is known.
func TestManyRecordsAfterALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		c.script = func(_ context.Context, n int, _ *shardlog.PutRequest) (bool, error) {
			if n == 0 {
				return true, shardlog.ErrUnknownOutcome
			}
			return false, nil
		}
		p := newProducer(t, c, &producer.Options{ID: "p", Linger: time.Millisecond, MaxBatchRecords: 10, Retry: producer.Retry{Initial: time.Hour, Max: time.Hour}, TTL: -1})
		names := numbered("", 200)
		start := time.Now()
		putAll(t, p, []string{"k"}, names)
		assert.Greater(t, time.Since(start), time.Second)
		assert.Equal(t, names, c.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestRequestOfAggregatesHoldsItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		const limit = 5000
		c.script = func(_ context.Context, _ int, req *shardlog.PutRequest) (bool, error) {
			n := 0
			for i := range req.Records {
				n += req.Records[i].Size()
			}
			assert.LessOrEqual(t, n, limit)
			return false, nil
		}
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, MaxBatchBytes: limit, Linger: soon})
		var o outcomes
		names := numbered("", 1000)
		for i, n := range names {
			r := rec(strings.Repeat("k", 1+i%97), n)
			r.ExplicitHashKey = shardlog.NewHashKey(1<<63, uint64(i))
			for range i % 4 {
				r.Headers = append(r.Headers, shardlog.Header{})
			}
			require.NoError(t, p.PutAsync(t.Context(), r, o.callback(n)))
		}
		require.NoError(t, p.Flush(t.Context()))
		assert.ElementsMatch(t, names, c.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// A request that may be stored is never sent under new numbers, also when the
// whole of it is found invalid later.
func TestInvalidAfterALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		c.script = func(_ context.Context, n int, req *shardlog.PutRequest) (bool, error) {
			switch {
			case n == 0:
				return true, shardlog.ErrUnknownOutcome
			case len(req.Records) > 1:
				return false, &shardlog.InvalidError{Field: "records[1].Data"}
			}
			return false, nil
		}
		p := newProducer(t, c, &producer.Options{ID: "p", Linger: soon})
		names := numbered("", 4)
		o := putAll(t, p, []string{"a", "b"}, names)
		assert.Equal(t, names, c.names(), "each once")
		for _, n := range names {
			require.ErrorIs(t, o.err(t, n), shardlog.ErrUnknownOutcome)
		}
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// A record that has its result and only waits for the turn of its callback did
// not expire.
func TestExpiredCountsWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			res := sink.failing(records, throttled(time.Hour), 0)
			if len(res) > 1 {
				res[1].Err = &shardlog.InvalidError{Field: "Data"}
			}
			return res, nil
		}
		p := newProducer(t, sink, &producer.Options{Linger: soon})
		o := putAll(t, p, []string{"k"}, []string{"throttled", "invalid"})
		require.ErrorIs(t, o.err(t, "throttled"), producer.ErrTTLExpired)
		require.ErrorIs(t, o.err(t, "invalid"), shardlog.ErrInvalid)
		assert.EqualValues(t, 1, p.Stats().Expired)
		assert.EqualValues(t, 2, p.Stats().Failed)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Writers that only wait for the sink are no reason to say that the buffer is
// full.
func TestTryPutWhileWritersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			_ = sleep(ctx, time.Second)
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{MaxBatchRecords: 1, MaxInFlight: 1})
		var o outcomes
		for _, n := range numbered("", 5) {
			o.put(t, p, "k", n)
			synctest.Wait() // so that the first is at the sink, and four are ready
		}
		started := make(chan struct{})
		go func() {
			close(started)
			o.put(t, p, "k", "waits")
		}()
		<-started
		synctest.Wait()
		require.Equal(t, 1, p.Stats().Waiting)
		for range 1000 { // also in the moment in which it need not wait any more
			time.Sleep(10 * time.Microsecond)
			synctest.Wait()
			require.NoError(t, p.TryPut(rec("k", "try"), nil))
		}
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Slow callbacks delay writers when the buffer is full, not before.
func TestSlowCallbacksLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProducer(t, &fakeSink{}, &producer.Options{MaxBatchRecords: 5})
		start := time.Now()
		for range 200 {
			require.NoError(t, p.PutAsync(t.Context(), rec("k", "a"), func(producer.Result, error) { time.Sleep(10 * time.Second) }))
		}
		assert.Less(t, time.Since(start), 2*time.Second)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// A list of shards that does not come delays records for a while, but not for
// their whole TTL.
func TestListingHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, allCaps)
		c.hang = true
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating})
		_, err := p.Put(t.Context(), rec("k", "a"))
		require.NoError(t, err)
		assert.Equal(t, []string{"a"}, c.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// A sink, or a hook, may end the producer that is calling it.
func TestCloseInsideTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		var p *producer.Producer
		sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			assert.NoError(t, p.Close())
			return sink.store(records), nil
		}
		p = newProducer(t, sink, &producer.Options{Linger: time.Millisecond})
		var o outcomes
		o.put(t, p, "k", "a")
		o.put(t, p, "l", "b")
		require.NoError(t, p.Shutdown(t.Context()))
		for _, n := range []string{"a", "b"} {
			require.ErrorIs(t, o.err(t, n), shardlog.ErrUnknownOutcome, "was in flight")
		}
		_, err := p.Put(t.Context(), rec("k", "c"))
		require.ErrorIs(t, err, shardlog.ErrClosed)
		requireNoGoroutines(t)
	})
}

func TestPutBatchContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			time.Sleep(time.Minute)
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{BufferRecords: 3, MaxBatchRecords: 2, MaxInFlight: 1, TTL: -1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var batch []shardlog.Record
		for _, n := range numbered("", 6) {
			batch = append(batch, rec("k"+n, n))
		}
		start := time.Now()
		_, err := p.PutBatch(ctx, batch)
		assert.Equal(t, time.Second, time.Since(start))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var failed *producer.BatchError
		require.ErrorAs(t, err, &failed)
		unknown := 0
		for i, err := range failed.Errors {
			require.ErrorIs(t, err, context.DeadlineExceeded, i)
			if errors.Is(err, shardlog.ErrUnknownOutcome) {
				unknown++
			}
		}
		assert.Equal(t, 2, unknown, "those in flight")
		assert.Zero(t, p.Stats().Pending, "the buffer is free again")
		assert.Zero(t, p.Stats().Waiting)
		require.NoError(t, p.TryPut(rec("k", "later"), nil))
		require.NoError(t, p.Flush(t.Context()))
		assert.Len(t, sink.names(), 3)
		require.NoError(t, p.Shutdown(t.Context()))
		requireNoGoroutines(t)
	})
}
