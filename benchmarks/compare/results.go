package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"
)

// results are the figures of one run of the command.
type results struct {
	Machine string
	Rounds  int
	Took    time.Duration
	Systems []system
	Figures [][]figures // by system, by round
	Pairs   [][]string
	Servers [][]string
}

func rateOf(w work) func(figures) float64 {
	return func(f figures) float64 { return f.Rate[w.String()] }
}

func scanOf(f figures) float64   { return f.Scan }
func diskOf(f figures) float64   { return f.DiskPerByte }
func memoryOf(f figures) float64 { return f.PeakMB }

// each returns a figure in every round, nil if the system does not have it.
func (res *results) each(system int, of func(figures) float64) (v []float64) {
	for _, f := range res.Figures[system] {
		if x := of(f); x > 0 {
			v = append(v, x)
		}
	}
	return v
}

// ratios is ours divided by the system's, round by round.
func (res *results) ratios(system int, of func(figures) float64) (v []float64) {
	for i, s := range res.Systems {
		if s.name != systems[0].name {
			continue
		}
		ours, theirs := res.each(i, of), res.each(system, of)
		for r := range min(len(ours), len(theirs)) {
			v = append(v, ours[r]/theirs[r])
		}
	}
	return v
}

// spread returns the median, the smallest and the largest value.
func spread(v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(v), slices.Min(v), slices.Max(v))
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

// machine describes the machine and the time.
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
	return fmt.Sprintf("%s %s/%s, %d CPUs%s, %s", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpu, time.Now().UTC().Format("2006-01-02 15:04 MST"))
}

// table writes a Markdown table.
func table(b *strings.Builder, head []string, rows [][]string) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, r := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(r, " | "))
	}
	b.WriteString("\n")
}

const intro = `# Benchmarks

Written by a program: make bench-compare runs it and writes this page and its charts again. Do not edit it.

- Machine and time: %s; %d rounds, %v.
- Command: %s
- Records are 100 bytes of data with a key of 16, which all store. A work is so many writers, each with batches of so many
  records, one call at a time, for a quarter of a second in a fresh directory. After it, everything is read back: count, order
  by key, nothing twice, nothing missing. Each system runs in a process of its own; rounds are interleaved.
- Figures are medians of the rounds. A ratio is shardlog divided by the other *within one round*, its median, and in brackets
  the smallest and the largest. Above 1, shardlog is faster; **below 1 it loses**. Compare ratios, not absolutes: shared machines
  are twice as fast at one hour as at another.
- Checking is in none of the times, but making the records is in the rates, for all alike.

`

// write writes the page and the charts.
func (res *results) write(dir string) error {
	var b strings.Builder
	command := "go run ./benchmarks/compare -out docs"
	if *servers != "" {
		command = "make bench-compare"
	}
	fmt.Fprintf(&b, intro, res.Machine, res.Rounds, res.Took, "`"+command+"`")
	res.acks(&b)
	for _, synced := range []bool{false, true} {
		title, name := "Append, not synced", "append"
		if synced {
			title, name = "Append, synced before the acknowledgement", "append-synced"
		}
		fmt.Fprintf(&b, "## %s\n\nRecords a second, and shardlog's ratio.\n\n", title)
		res.appends(&b, synced)
		for _, w := range works {
			if w.sync != synced || w.batch == 500 && w.writers == 1 {
				continue
			}
			file := fmt.Sprintf("benchmarks-%s-%dx%d.svg", name, w.writers, w.batch)
			if err := res.chart(filepath.Join(dir, file), "Append "+w.String()+", records/s", rateOf(w)); err != nil {
				return err
			}
			fmt.Fprintf(&b, "![Append %s, records a second](%s)\n\n", w, file)
		}
	}
	b.WriteString("## Latency of a call with one record\n\nMicroseconds from the call to the acknowledgement, p50 / p99.\n\n")
	res.latencies(&b)
	b.WriteString("## From an append to a reader that waits\n\nMicroseconds, a record each half millisecond. Systems without a reader that can wait are not here.\n\n")
	res.handOvers(&b)
	b.WriteString("## Scan, disk and memory\n\n")
	fmt.Fprintf(&b, "%d records in batches of 500 by one writer, then read from the beginning in the same process. Disk is bytes on disk after closing for each byte of keys and data. Memory is the most that the whole process had.\n\n", loaded())
	res.resources(&b)
	if err := res.chart(filepath.Join(dir, "benchmarks-scan.svg"), "Scan, records/s", scanOf); err != nil {
		return err
	}
	b.WriteString("![Scan, records a second](benchmarks-scan.svg)\n\n")
	if len(res.Pairs) > 0 {
		b.WriteString("## Clients\n\nProducer and consumer compared with franz-go's with its fake broker, records a second.\n\n")
		table(&b, []string{"work", "shardlog", "franz-go", "ratio"}, res.Pairs)
	}
	if len(res.Servers) > 0 {
		b.WriteString("## Over HTTP\n\nThe Kinesis endpoint compared with other emulators, with requests that are ready, so that no client's work is counted. Records a second.\n\n")
		table(&b, []string{"work", "endpoint", "records/s", "ratio"}, res.Servers)
	}
	return os.WriteFile(filepath.Join(dir, "BENCHMARKS.md"), []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

func (res *results) acks(b *strings.Builder) {
	b.WriteString("## What an acknowledgement means\n\n")
	var rows [][]string
	for _, s := range res.Systems {
		rows = append(rows, []string{s.name, or(s.unsynced), or(s.synced)})
	}
	table(b, []string{"system", "not synced", "synced"}, rows)
}

func or(s string) string {
	if s == "" {
		return "not there"
	}
	return s
}

func (res *results) appends(b *strings.Builder, synced bool) {
	head := []string{"system"}
	for _, w := range works {
		if w.sync == synced {
			head = append(head, fmt.Sprintf("%d x %d", w.writers, w.batch))
		}
	}
	var rows [][]string
	for i, s := range res.Systems {
		row, some := []string{s.name}, false
		for _, w := range works {
			if w.sync != synced {
				continue
			}
			cell := "-"
			if v := res.each(i, rateOf(w)); v != nil {
				cell, some = si(median(v))+"; "+spread(res.ratios(i, rateOf(w))), true
			}
			row = append(row, cell)
		}
		if some {
			rows = append(rows, row)
		}
	}
	table(b, head, rows)
}

func (res *results) latencies(b *strings.Builder) {
	head := []string{"system"}
	var singles []work
	for _, w := range works {
		if w.batch == 1 {
			singles, head = append(singles, w), append(head, w.String())
		}
	}
	var rows [][]string
	for i, s := range res.Systems {
		row := []string{s.name}
		for _, w := range singles {
			n, cell := w.String(), "-"
			if p := res.each(i, func(f figures) float64 { return f.P50[n] }); p != nil {
				cell = fmt.Sprintf("%.1f / %.0f", median(p), median(res.each(i, func(f figures) float64 { return f.P99[n] })))
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	table(b, head, rows)
}

func (res *results) handOvers(b *strings.Builder) {
	of := func(f figures) float64 { return f.HandOver99 }
	var rows [][]string
	for i, s := range res.Systems {
		if v := res.each(i, of); v != nil {
			rows = append(rows, []string{s.name, fmt.Sprintf("%.0f", median(res.each(i, func(f figures) float64 { return f.HandOver50 }))), fmt.Sprintf("%.0f", median(v)), spread(res.ratios(i, of))})
		}
	}
	table(b, []string{"system", "p50", "p99", "ratio of p99; below 1, shardlog is faster"}, rows)
}

func (res *results) resources(b *strings.Builder) {
	var rows [][]string
	for i, s := range res.Systems {
		disk := "-"
		if v := res.each(i, diskOf); v != nil {
			disk = fmt.Sprintf("%.2f", median(v))
		}
		rows = append(rows, []string{s.name, si(median(res.each(i, scanOf))), spread(res.ratios(i, scanOf)), disk, fmt.Sprintf("%.0f", median(res.each(i, memoryOf)))})
	}
	table(b, []string{"system", "scan, records/s", "ratio", "disk, bytes/byte", "peak memory, MB"}, rows)
}

// chart draws a bar for each system that has the figure.
func (res *results) chart(path, title string, of func(figures) float64) error {
	var bars []chart.Value
	for i, s := range res.Systems {
		v := res.each(i, of)
		if v == nil {
			continue
		}
		color := drawing.ColorFromHex("9aa5b1")
		if s.name == systems[0].name {
			color = drawing.ColorFromHex("1f6feb")
		}
		bars = append(bars, chart.Value{Label: s.name + " " + si(median(v)), Value: median(v), Style: chart.Style{FillColor: color, StrokeColor: color}})
	}
	if len(bars) == 0 {
		return nil
	}
	top := slices.MaxFunc(bars, func(a, b chart.Value) int { return int(a.Value - b.Value) }).Value
	c := chart.BarChart{
		Title: title, Width: 1100, Height: 420, BarWidth: 50, BarSpacing: 42, Bars: bars,
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 30}},
		XAxis:      chart.Style{FontSize: 8, TextWrap: chart.TextWrapWord},
		YAxis: chart.YAxis{
			Range:          &chart.ContinuousRange{Min: 0, Max: top * 1.05},
			ValueFormatter: func(v any) string { return si(v.(float64)) },
		},
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := c.Render(chart.SVG, f); err != nil {
		_ = f.Close() // the first error is the cause
		return err
	}
	return f.Close()
}
