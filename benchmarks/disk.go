package main

import (
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog/stream"
)

// window appends 5 GB to a stream that retains 200 MB, and measures the disk use
// meanwhile.
func window(r *report) {
	const size = 1024
	keep := int64(pick(200<<20, 20<<20))
	total := int64(pick(5000, 100)) << 20
	dir, cleanup := tempDir()
	defer cleanup()
	opts := &stream.Options{Durability: stream.SyncNever, ValueLogFileBytes: keep / 8}
	db := must(stream.Open(dir, opts))
	defer func() { check(db.Close()) }()
	st := must(db.Create(ctx, "bench", stream.Config{Shards: 4, RetentionBytes: keep}))
	var high, sum, samples atomic.Int64
	full := make(chan struct{})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			d := db.Stats().DiskBytes
			high.Store(max(high.Load(), d))
			select {
			case <-full:
				sum.Add(d)
				samples.Add(1)
			default:
			}
		}
	}()
	batch := records(500, size)
	var lat []time.Duration
	start := time.Now()
	for n := int64(0); n < total; n += int64(len(batch) * size) {
		if n > keep && n <= keep+int64(len(batch)*size) {
			close(full)
		}
		t := time.Now()
		put(st, batch)
		lat = append(lat, time.Since(t))
	}
	took := time.Since(start)
	close(stop)
	<-stopped
	live := float64(keep)
	r.line("disk (goal "+r.b.goal+")", "high %.2f x, average %.2f x of %d MB; append p50 %v p99 %v max %v; %.0f MB/s",
		float64(high.Load())/live, float64(sum.Load())/float64(max(1, samples.Load()))/live, keep>>20,
		percentile(lat, .5).Round(time.Microsecond), percentile(lat, .99).Round(time.Microsecond), percentile(lat, 1).Round(time.Microsecond),
		float64(total)/took.Seconds()/1e6)
	time.Sleep(time.Duration(pick(3000, 100)) * time.Millisecond)
	s := db.Stats()
	r.line("later, idle", "disk %.2f x, live %.2f x", float64(s.DiskBytes)/live, float64(s.LiveBytes)/live)
}
