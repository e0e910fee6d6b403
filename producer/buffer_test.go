package producer_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// blocked is a sink whose calls wait until it is opened.
func blocked(ignoreContext bool) (sink *fakeSink, open func()) {
	gate := make(chan struct{})
	sink = &fakeSink{}
	sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
		done := ctx.Done()
		if ignoreContext {
			done = nil
		}
		select {
		case <-gate:
			return sink.store(records), nil
		case <-done:
			return nil, ctx.Err()
		}
	}
	return sink, func() { close(gate) }
}

// Scenario 65.
func TestScenario65BufferFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, opts := range map[string]*producer.Options{
			"records": {BufferRecords: 3},
			"bytes":   {BufferBytes: 35, MaxRecordSize: 20},
		} {
			sink, open := blocked(false)
			p := newProducer(t, sink, opts)
			var o outcomes
			for _, n := range []string{"0", "1", "2"} {
				o.put(t, p, "k", strings.Repeat(n, 10))
			}
			synctest.Wait()
			err := p.TryPut(rec("k", "33333"), nil)
			require.ErrorIs(t, err, producer.ErrBufferFull, name)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			require.ErrorIs(t, p.PutAsync(ctx, rec("k", "33333"), nil), context.DeadlineExceeded)
			_, err = p.Put(ctx, rec("k", "33333"))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, time.Second, time.Since(start))
			cancel()

			var wg sync.WaitGroup
			for _, n := range []string{"aaaaa", "bbbbb", "ccccc", "ddddd", "eeeee"} {
				wg.Go(func() { o.put(t, p, "k", n) })
				synctest.Wait()
			}
			s := p.Stats()
			assert.Equal(t, 3, s.Pending)
			assert.EqualValues(t, 33, s.PendingBytes)
			assert.Equal(t, 5, s.Waiting)
			assert.EqualValues(t, 1, s.Rejected)
			assert.Equal(t, time.Second, s.OldestAge)
			open()
			wg.Wait()
			require.NoError(t, p.Shutdown(t.Context()))
			assert.Equal(t, []string{"0000000000", "1111111111", "2222222222", "aaaaa", "bbbbb", "ccccc", "ddddd", "eeeee"}, sink.names(), "those that wait are served in order")
			assert.Equal(t, sink.names(), o.list())
		}
	})
}

func TestRejectWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, open := blocked(false)
		p := newProducer(t, sink, &producer.Options{BufferRecords: 2, WhenFull: producer.Reject})
		var o outcomes
		o.put(t, p, "k", "a")
		require.ErrorIs(t, func() error {
			_, err := p.PutBatch(t.Context(), []shardlog.Record{})
			return errors.Join(err, p.PutAsync(t.Context(), rec("k", "b"), nil), p.PutAsync(t.Context(), rec("k", "c"), nil))
		}(), producer.ErrBufferFull)
		_, err := p.Put(t.Context(), rec("k", "c"))
		require.ErrorIs(t, err, producer.ErrBufferFull)
		go func() { time.Sleep(time.Second); open() }()
		_, err = p.PutBatch(t.Context(), []shardlog.Record{rec("k", "c")})
		require.ErrorIs(t, err, producer.ErrBufferFull)
		assert.EqualValues(t, 3, p.Stats().Rejected)
		require.NoError(t, p.Flush(t.Context()))
		_, err = p.Put(t.Context(), rec("k", "d"))
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "b", "d"}, sink.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Callbacks occupy the room of their records: a slow one makes writers wait
// instead of letting results pile up.
func TestSlowCallbackHoldsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		p := newProducer(t, sink, &producer.Options{BufferRecords: 10})
		gate := make(chan struct{})
		var o outcomes
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "slow"), func(producer.Result, error) { <-gate }))
		taken := 0
		for _, n := range numbered("", 30) {
			if p.TryPut(rec("k", n), o.callback(n)) == nil {
				taken++
			}
			synctest.Wait()
		}
		assert.Equal(t, 9, taken)
		assert.Len(t, sink.names(), 10, "requests go on")
		assert.Zero(t, p.Stats().OldestAge, "all have their results")
		close(gate)
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Len(t, o.list(), 9)
	})
}

// The buffer stays flat while many more records than it holds are put.
func TestBufferIsNeverExceeded(t *testing.T) {
	sink := &fakeSink{}
	sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
		return make([]shardlog.PutResult, len(records)), nil
	}
	p := newProducer(t, sink, &producer.Options{BufferRecords: 50, BufferBytes: 2000, MaxRecordSize: 200})
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			s := p.Stats()
			assert.LessOrEqual(t, s.Pending, 50)
			assert.LessOrEqual(t, s.PendingBytes, int64(2000))
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	var wg sync.WaitGroup
	for _, k := range numbered("k", 8) {
		wg.Go(func() {
			for i := range 2000 {
				assert.NoError(t, p.PutAsync(context.Background(), rec(k, strings.Repeat("x", i%190)), func(_ producer.Result, err error) { assert.NoError(t, err) }))
			}
		})
	}
	wg.Wait()
	require.NoError(t, p.Shutdown(t.Context()))
	close(stop)
	<-watched
	s := p.Stats()
	assert.EqualValues(t, 16000, s.Put)
	assert.Zero(t, s.Pending)
	requireNoGoroutines(t)
}
