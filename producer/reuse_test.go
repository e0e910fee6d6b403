package producer_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// What a sink was given when it was cut off, or did not return, may still be
// read by what it left behind. It is never used again.
func TestDataIsLeftToASinkThatMayStillRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, leave := range map[string]func(context.Context) error{
			"cut off":    func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			"unknown":    func(context.Context) error { return shardlog.ErrUnknownOutcome },
			"panic":      func(context.Context) error { panic("sink") },
			"exit":       func(context.Context) error { exit(); return nil },
			"ignores it": func(context.Context) error { time.Sleep(time.Minute); return nil },
		} {
			sink := &fakeSink{}
			look := make(chan struct{})
			looked := make(chan struct{})
			sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
				if n > 0 {
					return sink.store(records), nil
				}
				var given, want [][]byte
				for i := range records {
					given = append(given, records[i].Data)
					want = append(want, bytes.Clone(records[i].Data))
				}
				go func() {
					<-look
					assert.Equal(t, want, given, name)
					close(looked)
				}()
				return nil, leave(ctx)
			}
			p := newProducer(t, sink, &producer.Options{RequestTimeout: 5 * time.Second, Linger: time.Millisecond, TTL: 20 * time.Second})
			for i := range 100 {
				require.NoError(t, p.PutAsync(t.Context(), rec(fmt.Sprint("k", i), fmt.Sprint("first ", i)), nil))
			}
			require.NoError(t, p.Flush(t.Context()))
			for i := range 5000 {
				require.NoError(t, p.PutAsync(t.Context(), rec(fmt.Sprint("other", i), fmt.Sprint("other ", i)), nil))
			}
			require.NoError(t, p.Flush(t.Context()))
			close(look)
			<-looked
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

// The context of OnRequest may end earlier than the request's own.
func TestDataIsLeftToASinkThatAHookCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		var given [][]byte
		sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if n > 0 {
				return sink.store(records), nil
			}
			for i := range records {
				given = append(given, records[i].Data)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		p := newProducer(t, sink, &producer.Options{Linger: time.Millisecond, OnRequest: func(ctx context.Context, _ producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			return ctx, func(producer.RequestOutcome) { cancel() }
		}})
		for range 100 {
			require.NoError(t, p.PutAsync(t.Context(), rec("k", "first"), nil))
		}
		require.NoError(t, p.Flush(t.Context()))
		for i := range 5000 {
			require.NoError(t, p.PutAsync(t.Context(), rec(fmt.Sprint(i), "other"), nil))
		}
		require.NoError(t, p.Flush(t.Context()))
		require.Len(t, given, 100)
		for _, data := range given {
			require.Equal(t, "first", string(data))
		}
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Records of all sizes, put while others are stored, are what the sink gets.
func TestDataIsIntactWhileMemoryIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(_ context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			time.Sleep(time.Duration(n%3) * time.Microsecond)
			switch n % 5 {
			case 1:
				return nil, errThrottled
			case 2:
				return sink.failing(records, errThrottled, 0), nil
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{MaxBatchRecords: 7, BufferRecords: 50, Retry: producer.Retry{Initial: time.Millisecond}})
		names := make([]string, 3000)
		var o outcomes
		for i := range names {
			names[i] = fmt.Sprintf("%d %s", i, bytes.Repeat([]byte{byte(i)}, i*7%400))
			o.put(t, p, fmt.Sprint("k", i%11), names[i])
		}
		require.NoError(t, p.Shutdown(t.Context()))
		assert.ElementsMatch(t, names, sink.names())
	})
}

// A busy producer allocates almost nothing for a record.
func TestAllocations(t *testing.T) {
	p := newProducer(t, &nullSink{}, nil)
	data, n := make([]byte, 100), 0
	done := func(producer.Result, error) { n++ }
	put := func() {
		for i := range 5000 {
			if err := p.PutAsync(context.Background(), shardlog.Record{PartitionKey: "k", Data: data}, done); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := p.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	put()
	allocs := testing.AllocsPerRun(10, put) / 5000
	assert.Less(t, allocs, 0.5, "a record")
	require.NoError(t, p.Shutdown(context.Background()))
	assert.Equal(t, 12*5000, n)
}

// What was kept for reuse is given back once the producer has had nothing to do
// for a second. The test counts what the producer keeps, not the heap, because
// when that shrinks is up to the collector.
func TestIdleProducerKeepsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, open := blocked(true) // so that no entry is used again while records are put
		p := newProducer(t, sink, &producer.Options{Linger: time.Hour, MaxBatchRecords: 10_000, TTL: -1})
		for range 90_000 {
			require.NoError(t, p.TryPut(shardlog.Record{PartitionKey: "k", Data: []byte("0123456789")}, nil))
		}
		open()
		require.NoError(t, p.Flush(t.Context()))
		entries, chunks, _, requests := p.Kept()
		assert.GreaterOrEqual(t, entries, 90_000)
		assert.Equal(t, 9, chunks, "a slab for each full request")
		assert.Positive(t, requests)
		time.Sleep(3 * time.Second)
		entries, chunks, queues, requests := p.Kept()
		assert.Zero(t, entries+chunks+queues+requests)

		// Little is kept.
		for range 1000 {
			require.NoError(t, p.TryPut(shardlog.Record{PartitionKey: "k", Data: []byte("0123456789")}, nil))
		}
		require.NoError(t, p.Flush(t.Context()))
		time.Sleep(time.Hour)
		entries, _, _, _ = p.Kept()
		assert.GreaterOrEqual(t, entries, 1000)
		assert.Less(t, entries, 2000)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}
