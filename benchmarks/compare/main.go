// Command compare gives the same work to the log with its clients and to
// alternatives, side by side in one run, and prints ratios. It is a module of its
// own because the alternatives have many dependencies.
//
//	go run ./benchmarks/compare              # from the root of the project
//	go run ./benchmarks/compare -quick       # short runs, to check that it works
//	go run ./benchmarks/compare -out docs    # and write BENCHMARKS.md and its charts there
//
// All sides run in turn, in several rounds, and a ratio is the median of the
// ratios of the rounds. Each system runs in a process of its own, with a new
// directory for each work. Everything that it stored is read back and checked:
// the count, the order of each key, no copies, nothing missing.
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

	dataDir = flag.String("dir", "", "directory for the data; the system's temporary one by default")
	outDir  = flag.String("out", "", "write BENCHMARKS.md and its charts to this directory")
	servers = flag.String("http", "", "Kinesis endpoints to compare with over HTTP, as name=url,name=url")
	player  = flag.String("play", "", "internal: the system that this process plays")
	part    = flag.String("part", "", "internal: and the part of it")
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
	if *player != "" {
		play(*player, *part)
		return
	}
	if *quick {
		*rounds = 1
	}
	begin := time.Now()
	fmt.Printf("%s\n\n", machine())
	want := regexp.MustCompile(*run)
	res := results{Machine: machine(), Rounds: *rounds}
	res.storage(want)
	res.clients(want)
	res.http(want)
	res.Took = time.Since(begin).Round(time.Second)
	if *outDir != "" {
		check(res.write(*outDir))
	}
}

// clients runs the pairs.
func (res *results) clients(want *regexp.Regexp) {
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
		res.Pairs = append(res.Pairs, []string{p.name, si(median(a)), si(median(b)), spread(q)})
	}
}

// storage runs all systems in several rounds. Each round starts with a different
// system.
func (res *results) storage(want *regexp.Regexp) {
	for _, s := range systems {
		if want.MatchString(s.name) {
			res.Systems = append(res.Systems, s)
		}
	}
	res.Figures = make([][]figures, len(res.Systems))
	for round := range *rounds {
		for i := range res.Systems {
			k := (i + round) % len(res.Systems)
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, *rounds, res.Systems[k].name)
			res.Figures[k] = append(res.Figures[k], playRound(res.Systems[k]))
		}
	}
	for i, s := range res.Systems {
		fmt.Println(s.name)
		for _, w := range works {
			if v := res.each(i, rateOf(w)); v != nil {
				n := w.String()
				fmt.Printf("  append %-18s %9s records/s, ours/rival %-24s call p50 %.0f us, p99 %.0f us\n", n, si(median(v)), spread(res.ratios(i, rateOf(w))),
					median(res.each(i, func(f figures) float64 { return f.P50[n] })), median(res.each(i, func(f figures) float64 { return f.P99[n] })))
			}
		}
		fmt.Printf("  scan %s records/s, %.2f bytes on disk for each, peak memory %.0f MB\n", si(median(res.each(i, scanOf))), median(res.each(i, diskOf)), median(res.each(i, memoryOf)))
	}
	fmt.Println()
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// records returns the number of records that a side puts or reads.
func records(size int) int {
	n := 1_000_000 * 100 / size
	if *quick {
		n /= 100
	}
	return n
}

// keys are partition keys, as many as a busy service has clients.
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
