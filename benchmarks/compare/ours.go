package main

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// open creates a stream of four shards in a directory of its own.
func open() (st *stream.Stream, closeAll func()) {
	dir := must(os.MkdirTemp("", "shardlog-compare-"))
	db := must(stream.Open(dir, &stream.Options{Durability: stream.SyncNever}))
	st = must(db.Create(context.Background(), "bench", stream.Config{Shards: 4}))
	return st, func() {
		check(db.Close())
		check(os.RemoveAll(dir))
	}
}

// produce puts records one by one through a producer, and waits until all are
// acknowledged.
func produce(size int) float64 {
	st, closeAll := open()
	defer closeAll()
	ctx, n, data := context.Background(), records(size), make([]byte, size)
	names := make([]string, len(keys))
	for i := range keys {
		names[i] = string(keys[i])
	}
	p := must(producer.New(st, nil))
	var stored atomic.Int64
	start := time.Now()
	for i := range n {
		check(p.PutAsync(ctx, shardlog.Record{PartitionKey: names[i%len(names)], Data: data}, func(_ producer.Result, err error) {
			check(err)
			stored.Add(1)
		}))
	}
	check(p.Shutdown(ctx))
	r := rate(n, start)
	if got := stored.Load(); got != int64(n) {
		panic(got)
	}
	return r
}

// fill stores records in prepared batches.
func fill(st *stream.Stream, n, size int) {
	batch := make([]shardlog.Record, 500)
	data := make([]byte, size)
	for from := 0; from < n; from += len(batch) {
		for i := range batch {
			batch[i] = shardlog.Record{PartitionKey: string(keys[(from+i)%len(keys)]), Data: data}
		}
		for _, r := range must(st.PutRecords(context.Background(), batch)) {
			check(r.Err)
		}
	}
}

// consume reads all of a stream through a consumer that checkpoints each batch.
func consume(size int) float64 {
	st, closeAll := open()
	defer closeAll()
	n := records(size)
	fill(st, n, size)
	c := must(consumer.New(st, nil))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var got atomic.Int64
	all := make(chan struct{})
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			if got.Add(int64(len(b.Records))) == int64(n) {
				close(all)
			}
			return nil
		}))
	}()
	<-all
	r := rate(n, start)
	check(c.Shutdown(context.Background()))
	check(<-done)
	return r
}
