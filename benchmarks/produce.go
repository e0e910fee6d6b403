package main

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// producing opens a stream and a producer for it; stop closes both.
func producing(sink func(*stream.Stream) shardlog.Sink, opts *producer.Options) (p *producer.Producer, stop func()) {
	dir, cleanup := tempDir()
	db, st := openLog(dir, stream.SyncNever, 4, stream.Config{})
	if sink == nil {
		sink = func(st *stream.Stream) shardlog.Sink { return st }
	}
	p = must(producer.New(sink(st), opts))
	return p, func() {
		check(p.Shutdown(ctx))
		check(db.Close())
		cleanup()
	}
}

// putSingles has writers put one record after the other through a producer.
func putSingles(writers int, opts *producer.Options) float64 {
	rs := records(1024, 100)
	p, stop := producing(nil, opts)
	defer stop()
	return closedLoop(writers, span(), func(w int) {
		must(p.Put(ctx, rs[w&1023]))
	})
}

// producerVsBatches compares Put by 256 goroutines with prepared batches. Each
// goroutine waits for its record, so a request has at most 256 records. Prepared
// batches of that size show the cost of the smaller request alone.
func producerVsBatches(opts *producer.Options, size int) func(*report) {
	return func(r *report) {
		batch := records(size, 100)
		r.ratio("records/s",
			func() float64 { return putSingles(256, opts) },
			func() float64 { return logBatches(1, batch, span()) })
	}
}

// putAsync puts n records from one goroutine and returns the rate and the
// allocations per record.
func putAsync(n int, opts *producer.Options) (rate, allocs float64) {
	rs := records(1024, 100)
	p, stop := producing(nil, opts)
	defer stop()
	var failed atomic.Int64
	done := func(_ producer.Result, err error) {
		if err != nil {
			failed.Add(1)
		}
	}
	run := func(n int) {
		for i := range n {
			check(p.PutAsync(ctx, rs[i&1023], done))
		}
		check(p.Flush(ctx))
	}
	run(n / 10) // the producer's own memory is there then
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	run(n)
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	total := float64(after.Mallocs - before.Mallocs)
	if failed.Load() > 0 {
		panic("records failed")
	}
	return float64(n) / elapsed.Seconds(), total / float64(n)
}

func putAsyncRate(opts *producer.Options) func(*report) {
	return func(r *report) {
		var rates, allocs []float64
		for range *rounds {
			rate, a := putAsync(pick(3_000_000, 50_000), opts)
			rates, allocs = append(rates, rate), append(allocs, a)
		}
		r.line("1 goroutine (goal "+r.b.goal+")", "%s records/s, %.2f allocations a record", si(median(rates)), median(allocs))
	}
}

// aggregation compares a producer that aggregates with one that does not, over
// the same stream: without limits, where it has no gain, and with those of
// Kinesis, which count stored records.
func aggregation(limits stream.Limits) func(*report) {
	return func(r *report) {
		run := func(enabled bool) float64 {
			dir, cleanup := tempDir()
			defer cleanup()
			db, st := openLog(dir, stream.SyncNever, 4, stream.Config{Limits: limits})
			defer func() { check(db.Close()) }()
			p := must(producer.New(st, &producer.Options{Aggregation: producer.Aggregation{Enabled: enabled}}))
			defer func() { check(p.Close()) }()
			rs := records(1024, 100)
			start := time.Now()
			for n := 0; n&255 != 0 || time.Since(start) < span(); n++ {
				check(p.PutAsync(ctx, rs[n&1023], nil))
			}
			took := time.Since(start)
			return float64(p.Stats().Put) / took.Seconds()
		}
		r.ratio("records/s", func() float64 { return run(true) }, func() float64 { return run(false) })
	}
}
