package stream_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/stream"
)

// BenchmarkOpenClose opens and closes a small database that exists. Heap-B is what
// it holds while it is open and idle.
func BenchmarkOpenClose(b *testing.B) {
	for _, d := range []stream.Durability{stream.SyncAlways, stream.SyncNever} {
		b.Run(d.String(), func(b *testing.B) {
			o := &stream.Options{Durability: d}
			dir := b.TempDir()
			db, err := stream.Open(dir, o)
			require.NoError(b, err)
			st, err := db.Create(context.Background(), "s", stream.Config{Shards: 4})
			require.NoError(b, err)
			_, err = st.PutRecords(context.Background(), benchRecords(100))
			require.NoError(b, err)
			require.NoError(b, db.Close())
			before := heap()
			db, err = stream.Open(dir, o)
			require.NoError(b, err)
			idle := heap() - before
			require.NoError(b, db.Close())
			b.ReportAllocs()
			for b.Loop() {
				db, err := stream.Open(dir, o)
				require.NoError(b, err)
				require.NoError(b, db.Close())
			}
			b.ReportMetric(float64(idle), "heap-B")
		})
	}
}

// heap returns how much of the heap is in use.
func heap() int64 {
	var m runtime.MemStats
	for range 2 { // what the first finds to be finalized, the second frees
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
