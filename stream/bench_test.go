package stream_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// The benchmarks of the write path use a database in memory, so that they show
// what the log costs and not what the disk does. Retention by bytes keeps its
// memory bounded however long they run.

func benchStream(b *testing.B, cfg stream.Config) (*stream.DB, *stream.Stream) {
	b.Helper()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	cfg.Shards, cfg.RetentionBytes = 4, 64<<20
	st, err := db.Create(context.Background(), "bench", cfg)
	require.NoError(b, err)
	return db, st
}

func benchRecords(n int) []shardlog.Record {
	records := make([]shardlog.Record, n)
	for i := range records {
		records[i] = shardlog.Record{PartitionKey: fmt.Sprintf("customer-%d", i), Data: make([]byte, 100)}
	}
	return records
}

func BenchmarkPut(b *testing.B) {
	_, st := benchStream(b, stream.Config{})
	records := benchRecords(256)
	ctx := context.Background()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := st.Put(ctx, records[i%len(records)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutParallel(b *testing.B) {
	_, st := benchStream(b, stream.Config{})
	records := benchRecords(256)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var next atomic.Int64
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := st.Put(ctx, records[int(next.Add(1))%len(records)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkPutRecords(b *testing.B) {
	_, st := benchStream(b, stream.Config{})
	records := benchRecords(100)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := st.PutRecords(ctx, records); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutRequest(b *testing.B) {
	_, st := benchStream(b, stream.Config{})
	ctx := context.Background()
	epoch, err := st.OpenProducer(ctx, "producer")
	require.NoError(b, err)
	req := &shardlog.PutRequest{Producer: "producer", Epoch: epoch, Records: benchRecords(100), Numbers: make([]uint64, 100)}
	number := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		req.Done = number
		for i := range req.Numbers {
			req.Numbers[i], number = number, number+1
		}
		if _, err := st.PutRequest(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutDedup(b *testing.B) {
	_, st := benchStream(b, stream.Config{DedupWindow: stream.MinDedupWindow})
	records := benchRecords(100)
	ctx := context.Background()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for k := range records {
			records[k].DedupID = fmt.Sprint(i, k)
		}
		if _, err := st.PutRecords(ctx, records); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTx(b *testing.B) {
	db, st := benchStream(b, stream.Config{})
	records := benchRecords(10)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		tx := db.Begin()
		tx.Put(st, records...)
		if _, err := tx.Commit(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
