package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
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
	time.Sleep(3 * time.Second)
	s := db.Stats()
	r.line("3 s later, idle", "disk %.2f x, live %.2f x", float64(s.DiskBytes)/live, float64(s.LiveBytes)/live)
}

// reopen loads a gigabyte in a child process, kills it, and measures how long the
// database takes to open.
func reopen(r *report) {
	dir, cleanup := tempDir()
	defer cleanup()
	data := filepath.Join(dir, "data")
	cmd := exec.Command(must(os.Executable()), "-child", "load", "-quick="+strconv.FormatBool(*quick), data)
	cmd.Stderr = os.Stderr
	out := must(cmd.StdoutPipe())
	check(cmd.Start())
	buf := make([]byte, 256)
	n := must(out.Read(buf))
	check(cmd.Process.Kill())
	_ = cmd.Wait()
	fields := strings.Fields(string(bytes.TrimSpace(buf[:n])))
	var took []float64
	for range 5 {
		start := time.Now()
		db := must(stream.Open(data, &stream.Options{Durability: stream.SyncNever}))
		took = append(took, float64(time.Since(start).Microseconds())/1e3)
		got := must(db.Stream(ctx, "bench")).Stats()
		var records int64
		for _, s := range got.Shards {
			records += s.Records
		}
		if strconv.FormatInt(records, 10) != fields[0] {
			panic(fmt.Sprintf("%d records after the kill, %s were acknowledged", records, fields[0]))
		}
		check(db.Close())
	}
	r.line("open (goal "+r.b.goal+")", "first %.0f ms, then %.0f ms (median); peak memory while loading %s MB", took[0], median(took[1:]), fields[1])
}

// playChild is the child of reopen: it loads the data and waits to be killed.
func playChild(part, dir string) {
	if part != "load" {
		panic("unknown part " + part)
	}
	db := must(stream.Open(dir, &stream.Options{Durability: stream.SyncNever}))
	st := must(db.Create(ctx, "bench", stream.Config{Shards: 4, MaxRecordSize: shardlog.MaxRecordSize}))
	batch := records(500, 1024)
	n := 0
	for total := 0; total < pick(1000, 20)<<20; total += len(batch) * 1024 {
		put(st, batch)
		n += len(batch)
	}
	fmt.Println(n, peakMemory()>>20)
	select {}
}

// peakMemory returns the peak resident memory of the process, 0 where the system
// does not report it.
func peakMemory() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10
		}
	}
	return 0
}
