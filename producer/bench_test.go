package producer_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// nullSink stores nothing.
type nullSink struct{ calls, records atomic.Int64 }

func (s *nullSink) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{OrderedRequest: true, Headers: true}
}

func (s *nullSink) Shards(context.Context) ([]shardlog.ShardInfo, error) { return nil, nil }

func (s *nullSink) PutRecords(_ context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	s.calls.Add(1)
	s.records.Add(int64(len(records)))
	res := make([]shardlog.PutResult, len(records))
	for i := range res {
		res[i].ShardID = "shardId-000000000000"
	}
	return res, nil
}

func benchKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "key-" + strconv.Itoa(i)
	}
	return keys
}

func BenchmarkPutAsync(b *testing.B) {
	for _, nkeys := range []int{1, 1000, 100_000} {
		for _, callback := range []bool{true, false} {
			b.Run(fmt.Sprintf("keys=%d/callback=%t", nkeys, callback), func(b *testing.B) {
				sink := &nullSink{}
				p, err := producer.New(sink, nil)
				require.NoError(b, err)
				keys, data, ctx := benchKeys(nkeys), make([]byte, 100), context.Background()
				var failed atomic.Int64
				done := func(_ producer.Result, err error) {
					if err != nil {
						failed.Add(1)
					}
				}
				if !callback {
					done = nil
				}
				b.ReportAllocs()
				b.ResetTimer()
				i := 0
				for b.Loop() {
					if err := p.PutAsync(ctx, shardlog.Record{PartitionKey: keys[i%nkeys], Data: data}, done); err != nil {
						b.Fatal(err)
					}
					i++
				}
				require.NoError(b, p.Flush(ctx))
				b.StopTimer()
				require.NoError(b, p.Shutdown(ctx))
				require.EqualValues(b, i, sink.records.Load())
				require.Zero(b, failed.Load())
				b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(i)/float64(sink.calls.Load()), "records/request")
			})
		}
	}
}

func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			sink := &nullSink{}
			p, err := producer.New(sink, nil)
			require.NoError(b, err)
			data, ctx := make([]byte, 100), context.Background()
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					r := shardlog.Record{PartitionKey: "key-" + strconv.Itoa(w), Data: data}
					for left.Add(-1) >= 0 {
						if _, err := p.Put(ctx, r); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			require.NoError(b, p.Shutdown(ctx))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(b.N)/float64(max(sink.calls.Load(), 1)), "records/request")
		})
	}
}
