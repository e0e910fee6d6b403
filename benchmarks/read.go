package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// ownedRecords reads a shard by Stream.Records, and returns the number of records and
// the bytes of their data.
func ownedRecords(st *stream.Stream, id string) (n, bytes int) {
	for r, err := range st.Records(ctx, id, shardlog.TrimHorizon()) {
		check(err)
		n++
		bytes += len(r.Data)
	}
	return n, bytes
}

// borrowedRecords reads a shard by Stream.Scan.
func borrowedRecords(st *stream.Stream, id string) (n, bytes int) {
	for r, err := range st.Scan(ctx, id, shardlog.TrimHorizon()) {
		check(err)
		n++
		bytes += len(r.Data)
	}
	return n, bytes
}

// readAll reads every record of a stream and returns the records a second.
func readAll(st *stream.Stream, read func(st *stream.Stream, id string) (n, bytes int), want int) float64 {
	n, bytes, start := 0, 0, time.Now()
	for _, s := range must(st.Shards(ctx)) {
		k, size := read(st, s.ID)
		n, bytes = n+k, bytes+size
	}
	d := time.Since(start)
	if n != want || bytes == 0 {
		panic(fmt.Sprintf("read %d records of %d", n, want))
	}
	return float64(n) / d.Seconds()
}

// scanSingly compares reading a log that was written one record at a time with
// one that was written in batches.
func scanSingly(r *report) {
	total := pick(400_000, 10_000)
	rs := records(500, 100)
	dir, cleanup := tempDir()
	defer cleanup()
	db, one := openLog(dir, stream.SyncNever, 1, stream.Config{})
	defer func() { check(db.Close()) }()
	batched := must(db.Create(ctx, "batched", stream.Config{}))
	for n := range total {
		must(one.Put(ctx, rs[n%500]))
	}
	for n := 0; n < total; n += len(rs) {
		put(batched, rs)
	}
	// Records that are still in memory would improve both figures.
	s := one.Stats().Shards[0]
	r.line("stored pieces", "%d for %d records written singly, %d written in batches", s.Blocks, total, batched.Stats().Shards[0].Blocks)
	r.ratio("records/s", func() float64 { return readAll(one, borrowedRecords, total) },
		func() float64 { return readAll(batched, borrowedRecords, total) })
}

// allocations counts heap objects per record.
func allocations(r *report) {
	total := pick(500_000, 10_000)
	batch := records(500, 100)
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, stream.SyncNever, 4, stream.Config{})
	defer func() { check(db.Close()) }()
	per := func(f func()) float64 {
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		f()
		runtime.ReadMemStats(&b)
		return float64(b.Mallocs-a.Mallocs) / float64(total)
	}
	r.line("append, batches of 500 (<= 0.2)", "%.3f a record", per(func() {
		for n := 0; n < total; n += len(batch) {
			put(st, batch)
		}
	}))
	r.line("scan (<= 0.05)", "%.4f a record", per(func() { readAll(st, ownedRecords, total) }))
}
