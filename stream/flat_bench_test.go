package stream_test

import (
	"context"
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// What a record costs, and how much memory the database takes, should hardly
// depend on how many shards and streams there are. The benchmarks of this file
// write to a directory, because the store has a part in both, and do not sync.
// Their heap-MB is what is left after a collection; run them with the same
// -benchtime=Nx in order to compare it. Quick-ns/record is of the fastest quarter
// of the batches, which depends less on what else the machine does.

func benchDir(b *testing.B) *stream.DB {
	b.Helper()
	db, err := stream.Open(b.TempDir(), &stream.Options{Durability: stream.SyncNever})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	return db
}

// reportFlat adds what these benchmarks compare to their results.
func reportFlat(b *testing.B, batch int, took []time.Duration) {
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/record")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/4].Nanoseconds())/float64(batch), "quick-ns/record")
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
}

// benchBatches returns batches of n records with keys in no order.
func benchBatches(n int) [][]shardlog.Record {
	r := rand.New(rand.NewSource(1))
	batches := make([][]shardlog.Record, max(1, 20_000/n))
	for i := range batches {
		batches[i] = make([]shardlog.Record, n)
		for k := range batches[i] {
			batches[i][k] = shardlog.Record{PartitionKey: fmt.Sprintf("customer-%07d", r.Intn(1e7)), Data: make([]byte, 100)}
		}
	}
	return batches
}

// Single records, each acknowledged when the journal has it.
func BenchmarkPutOnDisk(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db := benchDir(b)
			st, err := db.Create(b.Context(), "bench", stream.Config{Shards: 4})
			require.NoError(b, err)
			records := benchBatches(20_000)[0]
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						if _, err := st.Put(context.Background(), records[i%len(records)]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkShards(b *testing.B) {
	for _, work := range []struct{ writers, batch int }{{1, 500}, {16, 500}, {1, 1}, {16, 1}} {
		for _, n := range []int{1, 4, 16, 100, 1000} {
			b.Run(fmt.Sprintf("%dx%d/shards=%d", work.writers, work.batch, n), func(b *testing.B) {
				db := benchDir(b)
				st, err := db.Create(context.Background(), "bench", stream.Config{Shards: n, RetentionBytes: 512 << 20})
				require.NoError(b, err)
				reportFlat(b, work.batch, benchWrite(b, work.writers, work.batch, func(int) *stream.Stream { return st }))
			})
		}
	}
}

func BenchmarkStreams(b *testing.B) {
	for _, batch := range []int{500, 20} {
		for _, n := range []int{1, 16, 200, 1000} {
			b.Run(fmt.Sprintf("1x%d/streams=%d", batch, n), func(b *testing.B) {
				db := benchDir(b)
				streams := make([]*stream.Stream, n)
				for i := range streams {
					var err error
					streams[i], err = db.Create(context.Background(), fmt.Sprint("bench-", i), stream.Config{Shards: 1, RetentionBytes: (512 << 20) / int64(n)})
					require.NoError(b, err)
				}
				reportFlat(b, batch, benchWrite(b, 1, batch, func(i int) *stream.Stream { return streams[i%n] }))
			})
		}
	}
}

// benchWrite stores b.N batches of n records with several writers; batch i goes
// to the stream to(i). It returns how long each batch took.
func benchWrite(b *testing.B, writers, n int, to func(i int) *stream.Stream) []time.Duration {
	took := make([]time.Duration, b.N)
	batches := benchBatches(n)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < b.N; i += writers {
				var err error
				start := time.Now()
				if records := batches[i%len(batches)]; n == 1 {
					_, err = to(i).Put(ctx, records[0])
				} else {
					_, err = to(i).PutRecords(ctx, records)
				}
				if err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	return took
}
