// Command compare gives the same work to the log with its clients and to
// alternatives, side by side in one run, and prints ratios and which of the goals
// they meet. It is a module of its own because the alternatives have many
// dependencies.
//
//	bash benchmarks/compare/run.sh                 # everything, with emulators over HTTP; writes docs/BENCHMARKS.md
//	go run ./benchmarks/compare                    # without the emulators and the page
//	go run ./benchmarks/compare -run synced        # the works whose names match
//	go run ./benchmarks/compare -list              # their names
//	go run ./benchmarks/compare -quick             # every work in short, to check that it works
//	go run ./benchmarks/compare -json run.json     # and keep the figures
//	go run ./benchmarks/compare -from run.json -out docs    # the page from figures that were kept
//
// Each side of a work runs in a process of its own, with a new directory. In
// every round the sides of a work follow each other, so that what else the
// machine does hits them alike; each round begins with another side. A ratio is
// that of two sides in one round. Everything that is stored is read back and
// checked: count, contents, order of each key, nothing twice.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/pprof"
	"slices"
	"time"
)

var (
	run     = flag.String("run", "", "run the works whose names match this expression")
	skip    = flag.String("skip", "", "leave out the works whose names match this expression")
	only    = flag.String("sides", "", "leave out the sides whose names do not match this expression; nothing is written to -out then")
	list    = flag.Bool("list", false, "print the names of the works and their sides")
	quick   = flag.Bool("quick", false, "one short round of everything, to see that it works; the figures mean nothing")
	rounds  = flag.Int("rounds", fewestRounds, "rounds of each work")
	span    = flag.Duration("time", leastSpan, "how long one side of a work runs in a round, where it is not a fixed number of records")
	dataDir = flag.String("dir", "", "directory for the data; the system's temporary one by default")
	outDir  = flag.String("out", "", "write BENCHMARKS.md and its charts to this directory")
	jsonOut = flag.String("json", "", "write the figures to this file")
	from    = flag.String("from", "", "take the figures from this file in place of measuring")
	servers = flag.String("http", "", "Kinesis endpoints to compare with over HTTP, as name=url,name=url")
	profile = flag.String("profile", "", "write a CPU profile of each process to this directory")

	playWork = flag.String("play", "", "internal: the work that this process plays")
	playSide = flag.String("side", "", "internal: the side of it")
	playStep = flag.String("step", "", "internal: the step of it, for works that take several processes")
	cpuFile  = flag.String("cpuprofile", "", "internal: the file for the profile of this process")
)

func main() {
	flag.Parse()
	if *playWork != "" {
		play()
		return
	}
	if err := parent(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parent() error {
	all := works()
	want, not := regexp.MustCompile(*run), regexp.MustCompile(*skip)
	sides := regexp.MustCompile(*only)
	if *only != "" && *outDir != "" {
		return errors.New("figures of some sides are no page: -sides and -out exclude each other")
	}
	var chosen []work
	for _, w := range all {
		if want.MatchString(w.name) && (*skip == "" || !not.MatchString(w.name)) {
			w.sides = slices.DeleteFunc(w.sides, func(s side) bool { return !sides.MatchString(s.name) })
			chosen = append(chosen, w)
		}
	}
	if *list {
		for _, w := range chosen {
			fmt.Println(w.name)
			for _, s := range w.sides {
				fmt.Println("  " + s.name)
			}
		}
		return nil
	}
	var res *results
	if *from != "" {
		var err error
		if res, err = load(*from); err != nil {
			return err
		}
	} else {
		if *outDir != "" {
			// Not only after twenty minutes.
			if err := newResults(chosen, len(all)).quotable(); err != nil {
				return err
			}
		}
		var err error
		res, err = measure(chosen, len(all))
		if *jsonOut != "" { // also what there is of a run that failed
			err = errors.Join(err, res.save(*jsonOut))
		}
		if err != nil {
			return err
		}
	}
	if *quick {
		fmt.Printf("%d works, %d sides: everything is stored, in order, once, and read again\n", len(chosen), len(res.Cells))
		return nil
	}
	res.print(os.Stdout)
	if *outDir != "" {
		return res.write(*outDir)
	}
	return nil
}

// play runs one side of a work in this process, and prints its figures.
func play() {
	if *cpuFile != "" {
		f := must(os.Create(*cpuFile))
		check(pprof.StartCPUProfile(f))
		defer func() {
			pprof.StopCPUProfile()
			check(f.Close())
		}()
	}
	for _, w := range works() {
		for _, s := range w.sides {
			if w.name != *playWork || s.name != *playSide {
				continue
			}
			check(printJSON(s.play()))
			return
		}
	}
	panic("no " + *playSide + " of " + *playWork)
}

const (
	// fewestRounds are those that figures need to be quoted.
	fewestRounds = 5
	// leastSpan is the time that a side needs in a round for the same.
	leastSpan = 400 * time.Millisecond
)
