package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// page is BENCHMARKS.md.
type page struct {
	*results
	strings.Builder
}

// write writes the page and its charts, unless the figures are not to be
// published.
func (res *results) write(dir string) error {
	if err := res.quotable(); err != nil {
		return err
	}
	p := &page{results: res}
	p.intro()
	p.goals()
	p.acks()
	if err := p.appends(dir); err != nil {
		return err
	}
	p.latencies()
	p.handOvers()
	p.scans()
	if err := p.chart(filepath.Join(dir, "benchmarks-scan.svg"), "Scan, records/s", "scan"); err != nil {
		return err
	}
	p.WriteString("![Scan, records a second](benchmarks-scan.svg)\n\n")
	p.reopened()
	p.scales()
	p.clients()
	p.overHTTP()
	return os.WriteFile(filepath.Join(dir, "BENCHMARKS.md"), []byte(strings.TrimRight(p.String(), "\n")+"\n"), 0o644)
}

// table writes a Markdown table.
func (p *page) table(head []string, rows [][]string) {
	fmt.Fprintf(p, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, r := range rows {
		fmt.Fprintf(p, "| %s |\n", strings.Join(r, " | "))
	}
	p.WriteString("\n")
}

const introText = `# Benchmarks

A program writes this page and its charts: %s. Do not edit it.

- Machine: %s; %d rounds, %v.
- A work is so many writers, each with batches of so many records, one call at a time: 16 x 500 is 16 writers with batches of 500.
  Records have a key of 16 bytes and 100 bytes of data that does not compress, or 1 KiB in works with that in their name; all
  systems store both.
- Each side of a work runs for %v (or a fixed number of records) in a process and a directory of its own. In each round the sides
  follow each other, and each round begins with another one. After the time everything is read back: count, contents, order by key,
  nothing twice, nothing missing. Neither that nor making the records is in the times.
- A ratio is of two sides *within one round*: the median of the rounds, and in brackets the smallest and the largest. In the tables
  it is shardlog divided by the other: above 1, shardlog is faster; **below 1 it is slower**. Compare ratios, not absolute
  figures: shared machines are twice as fast at one hour as at another.

`

func (p *page) intro() {
	fmt.Fprintf(p, introText, "`"+p.Command+"`", p.Machine, p.Rounds, p.Took, p.Span)
}

func (p *page) goals() {
	rows, met := p.summary()
	fmt.Fprintf(p, "## Goals\n\n%d of %d are met. What is measured is the median of the rounds, with the smallest and the largest.\n\n", met, len(rows))
	p.table([]string{"work", "goal", "measured", "met"}, rows)
}

func (p *page) acks() {
	p.WriteString("## What an acknowledgement means\n\n")
	or := func(s string) string {
		if s == "" {
			return "not there"
		}
		return s
	}
	var rows [][]string
	for _, s := range systems {
		rows = append(rows, []string{s.name, or(s.unsynced), or(s.synced)})
	}
	p.table([]string{"system", "not synced", "synced"}, rows)
}

// versus is the table of a figure, of several works: the figure, and what ours
// divided by it is.
func (p *page) versus(first string, names, labels []string, metric string) {
	var all []string
	for _, n := range names {
		for _, s := range p.sides(n) {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	var rows [][]string
	for _, s := range all {
		row := []string{s}
		for _, n := range names {
			v := p.each(of{n, s, metric})
			switch {
			case v == nil:
				row = append(row, "-")
			case s == us:
				row = append(row, si(median(v)))
			default:
				row = append(row, si(median(v))+"; "+spread(p.ratios(of{n, us, metric}, of{n, s, metric})))
			}
		}
		rows = append(rows, row)
	}
	p.table(append([]string{first}, labels...), rows)
}

func (p *page) appends(dir string) error {
	for _, t := range []struct {
		title, file string
		sync        bool
		size        int
	}{
		{"Append, not synced", "append", false, small.size}, {"Append of 1 KiB, not synced", "", false, large.size},
		{"Append, synced before the acknowledgement", "append-synced", true, small.size}, {"Append of 1 KiB, synced", "", true, large.size},
	} {
		var names, labels []string
		for _, w := range manners {
			if w.sync == t.sync && w.size == t.size {
				names, labels = append(names, w.name()), append(labels, fmt.Sprintf("%d x %d", w.writers, w.batch))
			}
		}
		fmt.Fprintf(p, "## %s\n\nRecords a second, and shardlog's ratio.\n\n", t.title)
		p.versus("system", names, labels, "rate")
		for _, w := range manners {
			if t.file == "" || w.sync != t.sync || w.size != t.size || w.batch == 500 && w.writers == 1 || w.writers > 16 {
				continue
			}
			file := fmt.Sprintf("benchmarks-%s-%dx%d.svg", t.file, w.writers, w.batch)
			if err := p.chart(filepath.Join(dir, file), "Append "+w.label()+", records/s", w.name()); err != nil {
				return err
			}
			fmt.Fprintf(p, "![Append %s, records a second](%s)\n\n", w.label(), file)
		}
	}
	return nil
}

func (p *page) latencies() {
	p.WriteString("## Latency of a call\n\nMicroseconds from the call to the acknowledgement, p50 / p99; for systems other than shardlog, its p99 divided by theirs as well: below 1, shardlog's is\nshorter.\n\n")
	for _, sync := range []bool{true, false} {
		head := []string{"not synced"}
		if sync {
			head[0] = "synced"
		}
		var rows [][]string
		for _, s := range systems {
			row, some := []string{s.name}, false
			for _, w := range manners {
				if w.sync != sync || w.size != small.size {
					continue
				}
				p50, p99, cell := p.each(of{w.name(), s.name, "p50"}), p.each(of{w.name(), s.name, "p99"}), "-"
				if p50 != nil {
					cell, some = short(median(p50))+" / "+short(median(p99)), true
					if s.name != us {
						cell += "; " + spread(p.ratios(of{w.name(), us, "p99"}, of{w.name(), s.name, "p99"}))
					}
				}
				row = append(row, cell)
			}
			if some {
				rows = append(rows, row)
			}
		}
		for _, w := range manners {
			if w.sync == sync && w.size == small.size {
				head = append(head, w.label())
			}
		}
		p.table(head, rows)
	}
}

func (p *page) handOvers() {
	p.WriteString("## From an append to a reader that waits\n\nMicroseconds, a record each half millisecond, not synced. The reader of the plain file is notified through a channel. Systems\nwithout a reader that can wait are not here.\n\n")
	var rows [][]string
	for _, s := range p.sides("hand-over") {
		p99 := of{"hand-over", s, "p99"}
		rows = append(rows, []string{s, short(median(p.each(of{"hand-over", s, "p50"}))), short(median(p.each(p99))), spread(p.ratios(of{"hand-over", us, "p99"}, p99))})
	}
	p.table([]string{"system", "p50", "p99", "ratio of p99; below 1, shardlog's is shorter"}, rows)
}

func (p *page) scans() {
	p.WriteString("## Scan, disk and memory\n\nUp to a million records of 100 bytes, in batches of 500 by one writer, are read from the beginning, in the same process, over and\nover; the first pass is apart. By reference means that the bytes of a record are lent until the next one. Disk is bytes on disk\nafter closing for each byte of records. Memory is the most that the process had while it wrote.\n\n")
	for _, sh := range []shape{small, explicit, large} {
		name := "scan" + sh.String()
		var rows [][]string
		for _, s := range p.sides(name) {
			get := func(metric string) string {
				v := p.each(of{name, s, metric})
				if v == nil {
					return "-"
				}
				return short(median(v))
			}
			rate := of{name, s, "rate"}
			rows = append(rows, []string{s, si(median(p.each(rate))), spread(p.ratios(of{name, us, "rate"}, rate)),
				spread(p.ratios(of{name, usLent, "rate"}, rate)), si(median(p.each(of{name, s, "first"}))), get("allocs"), get("disk"), get("peakMB")})
		}
		p.table([]string{name, "records/s", "shardlog's ratio", "its ratio by reference", "first pass, records/s", "allocations a record", "disk, bytes/byte", "peak memory, MB"}, rows)
	}
}

func (p *page) reopened() {
	cached := p.each(of{"reopen", us, "cached"})
	p.WriteString("## A gigabyte, killed and opened\n\nOne writer stores a gigabyte in records of 1 KiB, in batches of 500, not synced, in a process that is then killed. Others open\nwhat it left: a copy of the files that is in the page cache (warm), and the files themselves after fsync and\nposix_fadvise(DONTNEED) of each (cold)")
	if cached != nil {
		fmt.Fprintf(p, "; mincore found at most %.2g %% of their pages still cached", 100*slices.Max(cached))
	}
	p.WriteString(". Milliseconds until the database is open, and to its first record.\n\n")
	var rows [][]string
	for _, s := range p.sides("reopen") {
		get := func(metric string) string { return short(median(p.each(of{"reopen", s, metric}))) }
		ratio := func(metric string) string {
			return get(metric) + "; " + spread(p.ratios(of{"reopen", us, metric}, of{"reopen", s, metric}))
		}
		rows = append(rows, []string{s, ratio("warm"), get("warmFirst"), ratio("cold"), get("coldFirst"), get("peakMB"), short(100 * median(p.each(of{"reopen", s, "kept"})))})
	}
	p.table([]string{"system", "warm; ratio", "to the first record", "cold; ratio", "to the first record", "peak memory while loading, MB", "records kept, %"}, rows)
}

func (p *page) scales() {
	p.WriteString("## Many shards, many streams, idle\n\nOne writer with batches of 500, over all shards of one stream, or to each stream in turn, with a single record to each at last.\n\n")
	var rows [][]string
	for _, name := range []string{"shards", "streams"} {
		for _, n := range p.sides(name) {
			get := func(metric string) []float64 { return p.each(of{name, n, metric}) }
			rows = append(rows, []string{n + " " + name, si(median(get("rate"))), spread(p.ratios(of{name, "1", "rate"}, of{name, n, "rate"})), spread(get("heapMB")), spread(get("peakMB"))})
		}
	}
	p.table([]string{"", "records/s", "cost of a record, of that with 1", "heap, MB", "peak memory, MB"}, rows)
	p.WriteString("A database that is open and has nothing to do; opening and closing a new one, and one with 10,000 records, synced.\n\n")
	rows = nil
	for _, s := range p.sides("idle") {
		get := func(metric string) string { return spread(p.each(of{"idle", s, metric})) }
		rows = append(rows, []string{s, get("heapMB"), get("new"), get("existing")})
	}
	p.table([]string{"system", "heap, MB", "new, ms", "existing, ms"}, rows)
}

func (p *page) clients() {
	p.WriteString("## Clients\n\nProducer and consumer, not synced, compared with franz-go's client and its fake broker over loopback. Put by 256 is of 256\ngoroutines that each wait for their record; PutAsync is of one that does not.\n\n")
	for _, w := range clientWorks() {
		p.versus(w.name, []string{w.name}, []string{"records/s; ratio"}, "rate")
	}
}

func (p *page) overHTTP() {
	p.WriteString("## Over HTTP\n\nThe Kinesis endpoint, in a directory, compared with a handler in net/http whose decoder was written by hand for these requests and\nwhich only answers")
	if *servers != "" || slices.ContainsFunc(p.Cells, func(c cell) bool { return c.Side == "kinesalite" }) {
		p.WriteString(", and with other emulators, which keep their data in memory")
	}
	p.WriteString(". Ready requests are bytes that were made before;\nwith the SDK (aws-sdk-go-v2) the client takes most of the time. Records a second, of what the side has to the decoder, and\nof shardlog in memory to the side. The last column is the processor's time for a request, of client and server together, in\nmicroseconds: it depends less than the rates on what else the machine does.\n\n")
	for _, w := range httpWorks() {
		var rows [][]string
		for _, s := range p.sides(w.name) {
			rate := of{w.name, s, "rate"}
			cpu := "-" // of a server that is another process
			if v := p.each(of{w.name, s, "cpu"}); len(v) > 0 {
				cpu = si(median(v))
			}
			rows = append(rows, []string{s, si(median(p.each(rate))), spread(p.ratios(rate, of{w.name, decoderSide, "rate"})), spread(p.ratios(of{w.name, usMemory, "rate"}, rate)), cpu})
		}
		p.table([]string{w.name, "records/s", "of the decoder", "shardlog in memory of it", "CPU"}, rows)
	}
}
