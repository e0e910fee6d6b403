package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// cell is what one side of a work did in one round.
type cell struct {
	// Run is that of the results that the cell belongs to.
	Run        string
	Round      int
	Work, Side string
	// Took is how long the process ran, checks included.
	Took    time.Duration
	Metrics metrics
}

// results are the figures of one run of the command.
type results struct {
	// Run is a name that no other run has.
	Run              string
	Machine, Command string
	Rounds           int
	Span             time.Duration
	Quick            bool
	// Works of All were run.
	Works, All int
	Took       time.Duration
	Cells      []cell
}

func newResults(ws []work, all int) *results {
	res := &results{Run: rand.Text(), Machine: machine(), Command: command(), Rounds: *rounds, Span: *span, Quick: *quick, Works: len(ws), All: all}
	if *quick {
		res.Rounds = 1
	}
	return res
}

// command is how to run it again.
func command() string {
	if *servers != "" {
		return "bash benchmarks/compare/run.sh"
	}
	return "go run ./benchmarks/compare -out docs"
}

// quotable says why figures must not be published: those of a few rounds, or of
// different runs, are not what they seem to be.
func (res *results) quotable() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if res.Quick {
		add("they are of a quick run")
	}
	if res.Rounds < fewestRounds {
		add("%d rounds; at least %d are needed", res.Rounds, fewestRounds)
	}
	if res.Span < leastSpan {
		add("each side ran for %v; at least %v are needed", res.Span, leastSpan)
	}
	if res.Works < res.All {
		add("%d works of %d; all are needed", res.Works, res.All)
	}
	if err := res.oneRun(); err != nil {
		faults = append(faults, err)
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("these figures are not to be published: %w", errors.Join(faults...))
}

// oneRun checks that all cells are of this run, and that every side has been in
// every round, once.
func (res *results) oneRun() error {
	type place struct{ work, side string }
	seen := map[place][]int{}
	for _, c := range res.Cells {
		if c.Run != res.Run {
			return fmt.Errorf("figures of the runs %s and %s are mixed", res.Run, c.Run)
		}
		p := place{c.Work, c.Side}
		seen[p] = append(seen[p], c.Round)
	}
	for p, got := range seen {
		slices.Sort(got)
		if len(got) != res.Rounds || got[0] != 1 || got[len(got)-1] != res.Rounds || len(slices.Compact(got)) != res.Rounds {
			return fmt.Errorf("%s, %s: there are figures of the rounds %v, not of each of %d", p.work, p.side, got, res.Rounds)
		}
	}
	return nil
}

func (res *results) save(path string) error {
	b, err := json.MarshalIndent(res, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func load(path string) (*results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	res := &results{}
	if err := json.Unmarshal(b, res); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return res, nil
}

// of is a figure of one side of a work.
type of struct{ work, side, metric string }

// each returns a figure in every round, nil if it is not there.
func (res *results) each(o of) (v []float64) {
	for _, c := range res.Cells {
		if c.Work != o.work || c.Side != o.side {
			continue
		}
		if x, ok := c.Metrics[o.metric]; ok {
			v = append(v, x)
		}
	}
	return v
}

// ratios divides one figure by another, round by round.
func (res *results) ratios(a, b of) (v []float64) {
	for _, c := range res.Cells {
		x, ok := c.Metrics[a.metric]
		if c.Work != a.work || c.Side != a.side || !ok {
			continue
		}
		for _, d := range res.Cells {
			if y, ok := d.Metrics[b.metric]; ok && d.Round == c.Round && d.Work == b.work && d.Side == b.side && y > 0 {
				v = append(v, x/y)
			}
		}
	}
	return v
}

// sides returns the names of those that did a work, in the order of works.
func (res *results) sides(name string) (names []string) {
	for _, w := range works() {
		if w.name != name {
			continue
		}
		for _, s := range w.sides {
			names = append(names, s.name)
		}
	}
	// Emulators are only known by the flag.
	for _, c := range res.Cells {
		if c.Work == name && !slices.Contains(names, c.Side) {
			names = append(names, c.Side)
		}
	}
	return names
}

// spread returns the median, the smallest and the largest value.
func spread(v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%s to %s)", short(median(v)), short(slices.Min(v)), short(slices.Max(v)))
}

// short writes a ratio or a figure near 1 with what matters of it.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v != 0 && v < 0.1:
		return fmt.Sprintf("%.2g", v)
	}
	return fmt.Sprintf("%.2f", v)
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

// machine describes the machine, the time and the tree.
func machine() string {
	cpu := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = ", " + strings.TrimSpace(v)
				break
			}
		}
	}
	tree := ""
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		tree = ", commit " + strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%s %s/%s, %d CPUs%s%s, %s", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpu, tree, time.Now().UTC().Format("2006-01-02 15:04 MST"))
}

// metrics returns the names of a side's figures, sorted.
func (res *results) metrics(work, side string) []string {
	for _, c := range res.Cells {
		if c.Work == work && c.Side == side {
			return slices.Sorted(maps.Keys(c.Metrics))
		}
	}
	return nil
}
