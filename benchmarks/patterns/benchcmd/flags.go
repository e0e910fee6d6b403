// Package benchcmd is the bench command: flags that describe workloads, and the
// output of results. It is a package of its own so that programs with other
// targets, such as benchmarks/kinesis, have the same command.
package benchcmd

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/shardlog/shardlog/benchmarks/patterns"
)

// Flags are the flags of the command. Use Register.
type Flags struct {
	file, json, html string
	profile          string
	count            int
	quiet            bool
	changes          []func(*patterns.Workload)
}

// Register adds the flags of "bench" to a set and returns their values, which are
// there after the set has parsed a command line. It adds none for the target.
func Register(f *flag.FlagSet) *Flags {
	b := &Flags{}
	name(f, &b.file, "f", "read a workload from this YAML `file`")
	b.count = 1
	f.Func("count", "`number` of runs of each workload, 1 to 1000; six or more distinguish differences from noise; 1 by default", func(s string) (err error) {
		b.count, err = integer(s, 1, 1000)
		return err
	})
	name(f, &b.json, "json", "write the report as JSON to this `file`; - is standard output, in place of the tables")
	name(f, &b.html, "html", "write the report as an HTML page with charts to this `file`")
	name(f, &b.profile, "cpuprofile", "write a CPU profile of all runs to this `file`, for go tool pprof")
	f.BoolVar(&b.quiet, "quiet", false, "print no progress")
	b.text(f, "name", "`name` of the workload", func(w *patterns.Workload, v string) { w.Name = v })
	b.time(f, "duration", "time for which records are put, including the warm-up", time.Millisecond, year, func(w *patterns.Workload, v patterns.Duration) { w.Duration = v })
	number(b, f, "records", "number of records to put in place of a duration; without a warm-up unless -warmup is given", 1, math.MaxInt64, func(w *patterns.Workload, v int64) {
		w.Records, w.Duration, w.WarmUp = v, 0, 0
	})
	b.time(f, "warmup", "time at the beginning that is not measured", 0, year, func(w *patterns.Workload, v patterns.Duration) { w.WarmUp = v })
	number(b, f, "seed", "seed of the sequence of keys and sizes", 1, math.MaxInt64, func(w *patterns.Workload, v int64) { w.Seed = uint64(v) })
	f.Func("size", "size of records: `BYTES`, lognormal:MEDIAN[:SIGMA[:MAX]] or lines", b.size)
	f.Func("keys", "partition `keys`: uniform:COUNT, zipf:COUNT:EXPONENT, hot:COUNT:SHARE or lines[:FIELD]", b.keys)
	b.text(f, "lines", "`file` whose lines are the records; see -size and -keys", func(w *patterns.Workload, v string) {
		w.Lines = v
		if w.Keys.Kind != patterns.KeyLines {
			w.Sizes = patterns.Sizes{Kind: patterns.SizeLines}
		}
	})
	b.registerPut(f)
	b.registerLog(f)
	return b
}

// Parse parses a command line whose flags may follow arguments, and returns the
// arguments. The error is that of f.
func Parse(f *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if args = f.Args(); len(args) == 0 {
			return rest, nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

func (b *Flags) registerPut(f *flag.FlagSet) {
	f.Func("rate", "records a second, whether the log keeps up or not; 0 for a closed loop", func(s string) error {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= 0 && v <= 1e9) { // so that NaN is refused
			return errors.New("must be a number from 0 to 1e9")
		}
		b.change(func(w *patterns.Workload) { w.Rate = v; w.Poisson = w.Poisson && v > 0 })
		return nil
	})
	b.bool(f, "poisson", "random intervals between records", func(w *patterns.Workload, v bool) { w.Poisson = v })
	number(b, f, "producers", "number of concurrent producers", 1, 4096, func(w *patterns.Workload, v int) { w.Producers = v })
	b.text(f, "put", "`how`: single, batch or async (through a producer)", func(w *patterns.Workload, v string) {
		w.Put = v
		if v != patterns.PutAsync {
			w.Aggregate = false
		}
		if v != patterns.PutSingle && w.Batch == 1 {
			w.Batch = 0
		}
	})
	number(b, f, "batch", "largest number of records in a call", 1, 10_000, func(w *patterns.Workload, v int) { w.Batch = v })
	b.time(f, "linger", "time that a record may wait for others", 1, time.Minute, func(w *patterns.Workload, v patterns.Duration) { w.Linger = v })
	number(b, f, "window", "largest number of records without an acknowledgement, with -put async", 1, 10_000_000, func(w *patterns.Workload, v int) { w.Window = v })
	b.bool(f, "aggregate", "pack records into aggregates, with -put async", func(w *patterns.Workload, v bool) { w.Aggregate = v })
}

func (b *Flags) registerLog(f *flag.FlagSet) {
	number(b, f, "shards", "shards of the stream", 1, patterns.MaxShards, func(w *patterns.Workload, v int) { w.Shards = v })
	b.text(f, "sync", "`durability`: always, interval or never", func(w *patterns.Workload, v string) { w.Sync = v })
	b.bool(f, "memory", "keep everything in memory", func(w *patterns.Workload, v bool) { w.Memory = v })
	b.text(f, "compression", "none, s2 or zstd", func(w *patterns.Workload, v string) { w.Compression = v })
	b.text(f, "limits", "none or kinesis", func(w *patterns.Workload, v string) { w.Limits = v })
	number(b, f, "consumers", "number of consumers, each of which reads everything; 0 for none", 0, 1000, func(w *patterns.Workload, v int) { w.Consumers.Count = v })
	b.text(f, "mode", "`how` they read: tail, poll, fanout or group", func(w *patterns.Workload, v string) { w.Consumers.Mode = v })
	number(b, f, "workers", "workers of each, with -mode group", 1, 1000, func(w *patterns.Workload, v int) { w.Consumers.Workers = v })
	b.time(f, "poll", "interval between their reads, with -mode poll", time.Millisecond, time.Hour, func(w *patterns.Workload, v patterns.Duration) { w.Consumers.PollEvery = v })
	b.time(f, "drain", "time to wait at the end for acknowledgements and deliveries", time.Millisecond, year, func(w *patterns.Workload, v patterns.Duration) { w.Drain = v })
}

// year is the longest time that a workload may last.
const year = 365 * 24 * time.Hour

// Values are checked where a flag is given: in a Workload, 0 stands for the
// default, so that a value out of range would be taken for one that was not
// given. The flag package puts the name and the value before these errors.
var (
	errForm  = errors.New("not of that form")
	errEmpty = errors.New("must not be empty")
)

// integer parses a whole number from lo to hi.
func integer[T int | int64](s string, lo, hi T) (T, error) {
	v, err := strconv.ParseInt(s, 10, strconv.IntSize)
	if err != nil || v < int64(lo) || v > int64(hi) {
		return 0, fmt.Errorf("must be a whole number from %d to %d", lo, hi)
	}
	return T(v), nil
}

// name adds a flag for the name of a file.
func name(f *flag.FlagSet, v *string, name, usage string) {
	f.Func(name, usage, func(s string) error {
		if *v = s; s == "" {
			return errEmpty
		}
		return nil
	})
}

// change adds a change that a flag makes to each workload.
func (b *Flags) change(f func(*patterns.Workload)) { b.changes = append(b.changes, f) }

func (b *Flags) text(f *flag.FlagSet, name, usage string, set func(*patterns.Workload, string)) {
	f.Func(name, usage, func(s string) error {
		if s == "" {
			return errEmpty
		}
		b.change(func(w *patterns.Workload) { set(w, s) })
		return nil
	})
}

func (b *Flags) bool(f *flag.FlagSet, name, usage string, set func(*patterns.Workload, bool)) {
	f.BoolFunc(name, usage, func(s string) error {
		v, err := strconv.ParseBool(s)
		b.change(func(w *patterns.Workload) { set(w, v) })
		return err
	})
}

func (b *Flags) time(f *flag.FlagSet, name, usage string, lo, hi time.Duration, set func(*patterns.Workload, patterns.Duration)) {
	f.Func(name, usage+", a `duration` such as 10s", func(s string) error {
		v, err := time.ParseDuration(s)
		if err != nil || v < lo || v > hi {
			return fmt.Errorf("must be a duration such as 10s, from %v to %v", lo, hi)
		}
		b.change(func(w *patterns.Workload) { set(w, patterns.Duration(v)) })
		return nil
	})
}

func number[T int | int64](b *Flags, f *flag.FlagSet, name, usage string, lo, hi T, set func(*patterns.Workload, T)) {
	f.Func(name, usage, func(s string) error {
		v, err := integer(s, lo, hi)
		if err != nil {
			return err
		}
		b.change(func(w *patterns.Workload) { set(w, v) })
		return nil
	})
}

// parts are the numbers of KIND:A:B. Those that are not there are 0.
type parts struct {
	fields []string
	err    error
}

// split returns the kind, and the parts after it, of which there may be most.
func split(s string, most int) (kind string, p *parts) {
	fields := strings.Split(s, ":")
	p = &parts{fields: fields[1:]}
	switch {
	case s == "":
		p.err = errEmpty
	case len(p.fields) > most:
		p.err = errForm
	}
	return fields[0], p
}

// integer returns the n-th part, a whole number from lo to hi.
func (p *parts) integer(n, lo, hi int) int {
	if n >= len(p.fields) || p.err != nil {
		return 0
	}
	v, err := integer(p.fields[n], lo, hi)
	if err != nil {
		p.err = fmt.Errorf("%q %w", p.fields[n], err)
	}
	return v
}

// number returns the n-th part, a number above 0 and at most hi.
func (p *parts) number(n int, hi float64) float64 {
	if n >= len(p.fields) || p.err != nil {
		return 0
	}
	v, err := strconv.ParseFloat(p.fields[n], 64)
	if err != nil || !(v > 0 && v <= hi) {
		p.err = fmt.Errorf("%q must be a number above 0, at most %v", p.fields[n], hi)
	}
	return v
}

// Bounds of what Workload.WithDefaults checks as well.
const (
	maxCount = 1 << 20
	maxField = 10_000
)

func (b *Flags) size(s string) error {
	sizes := patterns.Sizes{Kind: patterns.SizeFixed}
	kind, p := split(s, 3)
	if _, err := strconv.ParseFloat(kind, 64); err == nil && len(p.fields) == 0 {
		p.fields = []string{kind}
		sizes.Bytes = p.integer(0, patterns.MinSize, patterns.MaxSize)
	} else {
		sizes = patterns.Sizes{
			Kind: kind, Bytes: p.integer(0, patterns.MinSize, patterns.MaxSize), Sigma: p.number(1, 4), Max: p.integer(2, patterns.MinSize, patterns.MaxSize),
		}
	}
	b.change(func(w *patterns.Workload) { w.Sizes = sizes })
	return p.err
}

func (b *Flags) keys(s string) error {
	kind, p := split(s, 2)
	k := patterns.Keys{Kind: kind}
	switch kind {
	case patterns.KeyLines:
		k.Field = p.integer(0, 1, maxField)
	case patterns.KeyZipf:
		k.Count, k.Exponent = p.integer(0, 1, maxCount), p.number(1, 10)
	case patterns.KeyHot:
		k.Count, k.HotShare = p.integer(0, 1, maxCount), p.number(1, 1)
	default:
		k.Count = p.integer(0, 1, maxCount)
	}
	if extra := len(p.fields) - 1; extra > 0 && kind != patterns.KeyZipf && kind != patterns.KeyHot {
		p.err = errForm
	}
	b.change(func(w *patterns.Workload) { w.Keys = k })
	return p.err
}

// workloads returns the requested workloads with the changes of the flags.
func (b *Flags) workloads(names []string, read func(string) ([]byte, error)) (all []patterns.Workload, err error) {
	for _, name := range names {
		w, err := patterns.Find(name)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	if b.file != "" {
		data, err := read(b.file)
		if err != nil {
			return nil, err
		}
		w, err := patterns.Parse(data)
		if err != nil {
			return nil, &FileError{b.file, err}
		}
		all = append(all, w)
	}
	if len(all) == 0 {
		all = append(all, patterns.Workload{})
	}
	for i := range all {
		for _, change := range b.changes {
			change(&all[i])
		}
		if all[i], err = all[i].WithDefaults(); err != nil {
			return nil, fmt.Errorf("workload %s: %w", all[i].Name, err)
		}
	}
	return all, nil
}
