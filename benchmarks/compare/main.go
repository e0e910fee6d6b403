// Command compare runs the same work through the log's clients and through
// what one would use in their place, side by side in one run, and prints the
// ratios. It is a module of its own because of what it compares with.
//
//	go run ./benchmarks/compare          # from the root of the project
//	go run ./benchmarks/compare -quick   # in short, for a check that it runs
//
// The two sides run in turn, several rounds, and the ratio is the median over
// the rounds.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"time"
)

var (
	run    = flag.String("run", "", "run the comparisons whose name matches this expression")
	quick  = flag.Bool("quick", false, "short runs, to see that everything works")
	rounds = flag.Int("rounds", 3, "rounds of each pair")
)

// pair is one line of the report; both sides return records a second.
type pair struct {
	name, goal  string
	ours, rival func() float64
}

var pairs = []pair{
	{"produce 100 B vs franz-go to kfake", ">= 5", func() float64 { return produce(100) }, func() float64 { return kafkaProduce(100) }},
	{"produce 1 KiB vs franz-go to kfake", "report", func() float64 { return produce(1024) }, func() float64 { return kafkaProduce(1024) }},
	{"consume 100 B vs franz-go from kfake", ">= 5", func() float64 { return consume(100) }, func() float64 { return kafkaConsume(100) }},
}

func main() {
	flag.Parse()
	if *quick {
		*rounds = 1
	}
	fmt.Printf("%s %s/%s, %d CPUs, %s\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format("2006-01-02 15:04 MST"))
	want := regexp.MustCompile(*run)
	for _, p := range pairs {
		if !want.MatchString(p.name) {
			continue
		}
		var a, b, q []float64
		p.ours() // not counted: fresh memory of a virtual machine is slow
		for range *rounds {
			runtime.GC()
			x := p.ours()
			runtime.GC()
			y := p.rival()
			a, b, q = append(a, x), append(b, y), append(q, x/y)
		}
		fmt.Printf("%-38s ratio %.2f (goal %s; %.2f to %.2f; ours %.0f, rival %.0f records/s)\n",
			p.name, median(q), p.goal, slices.Min(q), slices.Max(q), median(a), median(b))
	}
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// records is how many records a side moves.
func records(size int) int {
	n := 2_000_000 * 100 / size
	if *quick {
		n /= 100
	}
	return n
}

// keys are partition keys; there are as many as a busy service has clients.
var keys = func() (k [][]byte) {
	for i := range 1000 {
		k = append(k, fmt.Appendf(nil, "key-%012d", i))
	}
	return k
}()

func rate(n int, start time.Time) float64 { return float64(n) / time.Since(start).Seconds() }

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
