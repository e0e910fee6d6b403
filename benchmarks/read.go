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

// scan reads a log that was written in batches, against Badger's iterator over
// one entry per record.
func scan(r *report) {
	total := pick(4_000_000, 50_000)
	batch := records(500, 100)
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, stream.SyncNever, 4, stream.Config{})
	defer func() { check(db.Close()) }()
	for n := 0; n < total; n += len(batch) {
		put(st, batch)
	}
	bdir, bclean := tempDir()
	defer bclean()
	bdb := openBadger(bdir, false)
	defer func() { check(bdb.Close()) }()
	btotal := total / 4
	wb := bdb.NewWriteBatch()
	for n := range btotal {
		check(wb.Set(badgerKey(n&3, uint64(n)), batch[n%500].Data))
	}
	check(wb.Flush())
	// Badger lends the bytes of an item until the next one, as Scan does.
	// Records copies them for the caller.
	rival := func() float64 { return badgerScan(bdb, btotal) }
	r.ratio("records/s", func() float64 { return readAll(st, borrowedRecords, total) }, rival)
	r.line("copied, by Records", "%s records/s", si(readAll(st, ownedRecords, total)))
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

// tailLatency compares the time from the start of an append to the delivery of the
// record to a waiting reader with that of a channel.
func tailLatency(r *report) {
	n := pick(20_000, 500)
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, stream.SyncNever, 1, stream.Config{})
	defer func() { check(db.Close()) }()
	rec := records(1, 100)[0]
	got := make(chan time.Time, 1)
	go func() {
		for _, err := range st.Tail(ctx, "shardId-000000000000", shardlog.TrimHorizon()) {
			if err != nil {
				return // closed
			}
			got <- time.Now()
		}
	}()
	measure := func(send func()) (lat []time.Duration) {
		for range n {
			// The next append comes when the reader waits again.
			time.Sleep(50 * time.Microsecond)
			start := time.Now()
			send()
			lat = append(lat, (<-got).Sub(start))
		}
		return lat
	}
	ours := measure(func() { must(st.Put(ctx, rec)) })
	ch := make(chan []byte)
	go func() {
		for range ch {
			got <- time.Now()
		}
	}()
	bare := measure(func() { ch <- rec.Data })
	close(ch)
	r.line("append to delivery (goal "+r.b.goal+")", "p50 %v p99 %v", percentile(ours, .5), percentile(ours, .99))
	r.line("bare channel", "p50 %v p99 %v", percentile(bare, .5), percentile(bare, .99))
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
