package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

// consume compares a consumer, with leases, a checkpoint after each batch and a
// handler that counts, with a loop that copies the records out of the shards.
func consume(r *report) {
	total := pick(4_000_000, 50_000)
	batch := records(500, 100)
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, stream.SyncNever, 4, stream.Config{})
	defer func() { check(db.Close()) }()
	for n := 0; n < total; n += len(batch) {
		put(st, batch)
	}
	group := 0
	ours := func() float64 {
		group++
		return consumeAll(st, total, &consumer.Options{Group: fmt.Sprint("g", group), MaxBatchRecords: 2_000})
	}
	r.ratio("records/s", ours, func() float64 { return readAll(st, ownedRecords, total) })
	group++
	r.line("batches of 1,000, the default", "%s records/s", si(consumeAll(st, total, &consumer.Options{Group: fmt.Sprint("g", group)})))
}

// consumeAll runs one consumer until it has read everything.
func consumeAll(st *stream.Stream, total int, o *consumer.Options) float64 {
	var n atomic.Int64
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := must(consumer.New(st, o))
	start := time.Now()
	var took time.Duration
	check(c.Run(runCtx, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
		if n.Add(int64(len(b.Records))) == int64(total) {
			took = time.Since(start)
			cancel()
		}
		return nil
	})))
	return float64(total) / took.Seconds()
}

// handOver measures the time from the start of an append to the call of the
// handler with the record, at a thousand records a second.
func handOver(r *report) {
	n := pick(5_000, 200)
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, stream.SyncNever, 1, stream.Config{})
	defer func() { check(db.Close()) }()
	got := make(chan time.Time, n)
	runCtx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	c := must(consumer.New(st, &consumer.Options{WorkerID: "w"}))
	go func() {
		done <- c.Run(runCtx, consumer.Each(func(context.Context, shardlog.Record) error {
			got <- time.Now()
			return nil
		}))
	}()
	rec := records(1, 100)[0]
	must(st.Put(ctx, rec))
	<-got
	var lat []time.Duration
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range n {
		<-tick.C
		start := time.Now()
		must(st.Put(ctx, rec))
		lat = append(lat, (<-got).Sub(start))
	}
	cancel()
	check(<-done)
	r.line("append to handler (goal "+r.b.goal+")", "p50 %v p99 %v", percentile(lat, .5), percentile(lat, .99))
}

// countingStore is a checkpoint store that counts writes.
type countingStore struct {
	checkpoint.Watcher
	writes atomic.Int64
}

func (s *countingStore) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	s.writes.Add(1)
	return s.Watcher.Create(ctx, l)
}

func (s *countingStore) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	s.writes.Add(1)
	return s.Watcher.Update(ctx, l)
}

// manyShards runs a group of ten workers with a thousand shards and measures how
// soon the shards are assigned evenly, how much the group writes while nothing
// changes, and how soon the shards of a worker that died are assigned again.
func manyShards(r *report) {
	shards, workers := pick(1000, 100), 10
	ttl := time.Duration(pick(10_000, 500)) * time.Millisecond
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, stream.SyncNever, shards, stream.Config{})
	defer func() { check(db.Close()) }()
	store := &countingStore{Watcher: db.Checkpoints().(checkpoint.Watcher)}
	h := consumer.HandlerFunc(func(context.Context, *consumer.Batch) error { return nil })
	var all []*consumer.Consumer
	done := make(chan error, workers)
	start := time.Now()
	for i := range workers {
		c := must(consumer.New(st, &consumer.Options{Store: store, WorkerID: fmt.Sprint("w", i), LeaseTTL: ttl}))
		all = append(all, c)
		go func() { done <- c.Run(ctx, h) }()
	}
	held := func() (n, most int) {
		for _, c := range all {
			l := c.Stats().CurrentLeases
			n, most = n+l, max(most, l)
		}
		return n, most
	}
	wait := func(even bool, want int) time.Duration {
		for {
			n, most := held()
			if n >= want && (!even || most <= (want+len(all)-1)/len(all)) {
				return time.Since(start)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	r.line("all held, then evenly", "%v, %v after the start", wait(false, shards).Round(10*time.Millisecond), wait(true, shards).Round(10*time.Millisecond))
	time.Sleep(time.Duration(pick(1000, 100)) * time.Millisecond)
	before, since := store.writes.Load(), time.Now()
	time.Sleep(time.Duration(pick(20_000, 200)) * time.Millisecond)
	r.line("writes when idle (< 5/s)", "%.1f a second", float64(store.writes.Load()-before)/time.Since(since).Seconds())
	check(all[0].Close()) // as if it had died
	<-done
	all = all[1:]
	start = time.Now()
	r.line(fmt.Sprintf("fail-over (TTL %v + 1 s)", ttl), "%v", wait(false, shards).Round(10*time.Millisecond))
	for _, c := range all {
		check(c.Shutdown(ctx))
		check(<-done)
	}
}
