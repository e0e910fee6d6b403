package main

import (
	"fmt"
	"io"
	"strings"
)

// goal is what a figure, or a ratio of two, has to be.
type goal struct {
	what string
	// least says that the bound is the smallest value, otherwise it is the
	// largest; below excludes the bound itself.
	least, below bool
	bound        float64
	unit         string
	figure       of
	// over is what the figure is divided by, if anything.
	over of
}

// atLeast is a goal for a ratio of ours to a peer's, of the same figure.
func atLeast(bound float64, work, side, peer, metric string) goal {
	return goal{what: what(work, side, metric) + " of " + peer, least: true, bound: bound, figure: of{work, side, metric}, over: of{work, peer, metric}}
}

func atMost(bound float64, work, side, peer, metric string) goal {
	g := atLeast(bound, work, side, peer, metric)
	g.least = false
	return g
}

// within is a goal for a figure itself.
func within(bound float64, unit, work, side, metric string) goal {
	return goal{what: what(work, side, metric), bound: bound, unit: unit, figure: of{work, side, metric}}
}

// what names a figure.
func what(work, side, metric string) string {
	s := work
	if rest := strings.TrimPrefix(strings.TrimPrefix(side, us), ", "); rest != "" {
		s += ", " + rest
	}
	if metric != "rate" {
		s += ", " + metricNames[metric]
	}
	return s
}

var metricNames = map[string]string{
	"p99": "p99", "p50": "p50", "allocs": "allocations a record", "peakMB": "peak memory while loading", "heapMB": "heap", "warm": "warm", "cold": "cold",
	"new": "a new one opened and closed", "existing": "an existing one opened and closed",
}

// goals are those of the project, of the work on the write path.
func goals() (all []goal) {
	add := func(g ...goal) { all = append(all, g...) }
	for _, g := range []struct {
		work          string
		wal, peb, bad float64
	}{{"append 1 x 1", 1.3, 1.8, 0}, {"append 16 x 1", 1.1, 1.8, 0}, {"append 1 x 500", 3, 4, 6}, {"append 16 x 500", 2, 4, 6}} {
		add(atLeast(g.wal, g.work, us, tidwall, "rate"), atLeast(g.peb, g.work, us, pebbles, "rate"))
		if g.bad > 0 {
			add(atLeast(g.bad, g.work, us, badgers, "rate"))
		}
	}
	for _, g := range []struct {
		work string
		peb  float64
	}{{"synced 1 x 1", 1.2}, {"synced 16 x 1", 1.6}, {"synced 256 x 1", 1.5}, {"synced 1 x 500", 1.8}, {"synced 16 x 500", 2.5}} {
		add(atLeast(g.peb, g.work, us, pebbles, "rate"))
		p99 := atMost(1, g.work, us, pebbles, "p99")
		p99.below = true
		add(p99)
	}
	for _, sh := range []shape{small, explicit} {
		name := "scan" + sh.String()
		add(atLeast(1, name, us, tidwall, "rate"), atLeast(1.5, name, usLent, tidwall, "rate"),
			within(0.02, "", name, us, "allocs"), within(0.02, "", name, usLent, "allocs"))
	}
	add(atMost(2, "hand-over", us, plain, "p99"),
		atMost(1, "reopen", us, pebbles, "warm"), atMost(1, "reopen", us, pebbles, "cold"))
	peak := within(300, "MB", "reopen", us, "peakMB")
	peak.below = true
	add(peak)
	for _, name := range []string{"shards", "streams"} {
		dearer := atMost(1.5, name, "1", "1,000", "rate")
		dearer.what = "1,000 " + name + ", cost of a record, of that with 1"
		heap := within(100, "MB", name, "1,000", "heapMB")
		heap.what, heap.below = "1,000 "+name+", heap", true
		add(dearer, heap)
	}
	for _, r := range []request{{500, 100, 16}, {500, 1024, 16}} {
		name := "ready " + r.String()
		add(atLeast(0.7, name, usNever, decoderSide, "rate"), atLeast(0.6, name, usAlways, decoderSide, "rate"))
	}
	add(atLeast(1.3, "PutAsync", us, franz, "rate"), atLeast(3, "Put by 256", us, franz, "rate"), atLeast(1.5, "consume", us, franz, "rate"),
		within(1.5, "MB", "idle", us, "heapMB"), within(10, "ms", "idle", us, "existing"), within(10, "ms", "idle", us, "new"))
	return all
}

// values returns what was measured, by round.
func (res *results) values(g goal) []float64 {
	if g.over == (of{}) {
		return res.each(g.figure)
	}
	return res.ratios(g.figure, g.over)
}

// met reports whether the median of what was measured reaches the goal.
func (g goal) met(v []float64) bool {
	m := median(v)
	switch {
	case len(v) == 0:
		return false
	case g.least:
		return m >= g.bound
	case g.below:
		return m < g.bound
	}
	return m <= g.bound
}

func (g goal) String() string {
	sign := "<="
	switch {
	case g.least:
		sign = ">="
	case g.below:
		sign = "<"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %v %s", sign, g.bound, g.unit))
}

// summary is a row for each goal that something was measured for, and how many
// of them are met.
func (res *results) summary() (rows [][]string, met int) {
	for _, g := range goals() {
		v := res.values(g)
		if len(v) == 0 {
			continue
		}
		verdict := "**no**"
		if g.met(v) {
			verdict = "yes"
			met++
		}
		rows = append(rows, []string{g.what, g.String(), spread(v), verdict})
	}
	return rows, met
}

// print prints the figures of all works, and which goals are met.
func (res *results) print(w io.Writer) {
	for _, wk := range works() {
		for _, s := range res.sides(wk.name) {
			line := ""
			for _, m := range res.metrics(wk.name, s) {
				v := res.each(of{wk.name, s, m})
				line += fmt.Sprintf("  %s %s", m, si(median(v)))
				if m == "rate" && s != us {
					if q := res.ratios(of{wk.name, us, m}, of{wk.name, s, m}); q != nil {
						line += ", ours/its " + spread(q)
					}
				}
			}
			if line != "" {
				fmt.Fprintf(w, "%-36s %-26s%s\n", wk.name, s, line)
			}
		}
	}
	rows, met := res.summary()
	fmt.Fprintf(w, "\n%s; %d rounds, %v\n\n", res.Machine, res.Rounds, res.Took)
	for _, r := range rows {
		fmt.Fprintf(w, "%-78s %-10s %-26s %s\n", r[0], r[1], r[2], strings.Trim(r[3], "*"))
	}
	fmt.Fprintf(w, "\n%d of %d goals are met", met, len(rows))
	if err := res.quotable(); err != nil {
		fmt.Fprintf(w, "; %v", err)
	}
	fmt.Fprintln(w)
}
