// Command benchmarks compares ways to use the log with each other, side by side
// in one run, and prints the ratios. Other systems are the matter of
// ./benchmarks/compare.
//
//	go run ./benchmarks                 # everything, about three minutes
//	go run ./benchmarks -run producer   # the benchmarks whose names match
//	go run ./benchmarks -quick          # short runs of everything, to check that it works
//
// The two sides of a pair run in turn, several times, and the ratio is the median
// of the rounds: on shared machines absolute figures differ up to twofold between
// runs, ratios of consecutive runs much less.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"sort"
	"strings"
	"time"

	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

var (
	run     = flag.String("run", "", "run the benchmarks whose name matches this expression")
	quick   = flag.Bool("quick", false, "short runs, to see that everything works")
	rounds  = flag.Int("rounds", 5, "rounds of each pair")
	tmpDir  = flag.String("dir", "", "directory for the data; the system's temporary one by default")
	profile = flag.String("cpuprofile", "", "write a CPU profile to this file")
)

// bench is one line of the report.
type bench struct {
	name string
	goal string
	run  func(*report)
}

// report collects the lines of one benchmark.
type report struct {
	b *bench
}

// line prints one figure.
func (r *report) line(what, format string, args ...any) {
	fmt.Printf("%-34s %-30s %s\n", r.b.name, what, fmt.Sprintf(format, args...))
}

// ratio runs ours and the rival in turn and prints the median of ours/rival;
// both return a rate, such as records a second.
func (r *report) ratio(unit string, ours, rival func() float64) {
	var a, b, q []float64
	ours() // a first round, not counted: fresh memory of a virtual machine is slow
	for range *rounds {
		x, y := ours(), rival()
		a, b, q = append(a, x), append(b, y), append(q, x/y)
	}
	r.line("ratio (goal "+r.b.goal+")", "%.2f  (%.2f to %.2f; ours %s, rival %s %s)", median(q), minOf(q), maxOf(q), si(median(a)), si(median(b)), unit)
}

func median(v []float64) float64 {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return s[len(s)/2]
}

func minOf(v []float64) float64 {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return s[0]
}

func maxOf(v []float64) float64 {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return s[len(s)-1]
}

func si(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.1f k", v/1e3)
	}
	return fmt.Sprintf("%.3g", v)
}

func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := append([]time.Duration(nil), d...)
	sort.Slice(s, func(i, j int) bool { return s[i] < s[j] })
	return s[int(float64(len(s)-1)*p)]
}

// pick returns n, or a smaller number in a quick run.
func pick(n, short int) int {
	if *quick {
		return short
	}
	return n
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// tempDir creates a directory that cleanup removes.
func tempDir() (dir string, cleanup func()) {
	dir = must(os.MkdirTemp(*tmpDir, "shardlog-bench-"))
	return dir, func() { check(os.RemoveAll(dir)) }
}

func main() {
	flag.Parse()
	if *quick {
		*rounds = 1
	}
	if *profile != "" {
		f := must(os.Create(*profile))
		check(pprof.StartCPUProfile(f))
		defer pprof.StopCPUProfile()
	}
	fmt.Printf("%s %s/%s, %d CPUs%s, %s\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpuName(), time.Now().UTC().Format("2006-01-02 15:04 MST"))
	want := regexp.MustCompile(*run)
	for i := range benches {
		if b := &benches[i]; want.MatchString(b.name) {
			runtime.GC()
			b.run(&report{b})
		}
	}
}

// cpuName returns the name of the processor, where the system reports it.
func cpuName() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return " " + strings.TrimSpace(v)
		}
	}
	return ""
}

var benches = []bench{
	{"numbered 500 x 100 B", "report; of plain", onceVsPlain(1, numbered)},
	{"numbered, 4 writers", "report; of plain", onceVsPlain(4, numbered)},
	{"dedup IDs 500 x 100 B", "report; of plain", onceVsPlain(1, withIDs)},
	{"transactions of 500 x 100 B", "report; of plain", onceVsPlain(1, transactions)},
	{"scan written singly", "about 1", scanSingly},
	{"consume 100 B", ">= 0.5", consume},
	{"append to handler, 1,000/s", "p99 < 1ms", handOver},
	{"1,000 shards, 10 workers", "held in 2 rounds", manyShards},
	{"5 GB through 200 MB", "disk <= 2, avg <= 1.5, p99 < 30ms", window},
	{"allocations", "append <= 0.2, scan <= 0.05", allocations},
	{"producer, Put by 256", ">= 0.8", producerVsBatches(nil, 500)},
	{"producer, Put by 256, of 256", "report", producerVsBatches(nil, 256)},
	{"producer, aggregating in process", "report", aggregation(stream.Limits{})},
	{"producer, aggregating, KinesisLimits", "report", aggregation(stream.KinesisLimits())},
	{"producer, PutAsync, ID", "report", putAsyncRate(&producer.Options{ID: "bench"})},
	{"producer, PutAsync, ID, aggregating", "report", putAsyncRate(&producer.Options{ID: "bench", Aggregation: producer.Aggregation{Enabled: true}})},
	{"producer, PutAsync", ">= 1.5 M/s, <= 1", putAsyncRate(nil)},
}
