// Package benchcmd is the bench command: flags that describe workloads, and the
// output of results. It is a package of its own so that programs with other
// targets, such as benchmarks/kinesis, have the same command.
package benchcmd

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
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
	f.StringVar(&b.file, "f", "", "read a workload from this YAML `file`")
	f.IntVar(&b.count, "count", 1, "number of runs of each workload; six or more distinguish differences from noise")
	f.StringVar(&b.json, "json", "", "write the report as JSON to this `file`; - is standard output, in place of the tables")
	f.StringVar(&b.html, "html", "", "write the report as an HTML page with charts to this `file`")
	f.StringVar(&b.profile, "cpuprofile", "", "write a CPU profile of all runs to this `file`, for go tool pprof")
	f.BoolVar(&b.quiet, "quiet", false, "print no progress")
	b.text(f, "name", "`name` of the workload", func(w *patterns.Workload, v string) { w.Name = v })
	b.time(f, "duration", "time for which records are put, including the warm-up", func(w *patterns.Workload, v patterns.Duration) { w.Duration = v })
	number(b, f, "records", "number of records to put in place of a duration; without a warm-up unless -warmup is given", func(w *patterns.Workload, v int64) {
		w.Records, w.Duration, w.WarmUp = v, 0, 0
	})
	b.time(f, "warmup", "time at the beginning that is not measured", func(w *patterns.Workload, v patterns.Duration) { w.WarmUp = v })
	number(b, f, "seed", "seed of the sequence of keys and sizes", func(w *patterns.Workload, v int64) { w.Seed = uint64(v) })
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
		if err != nil {
			return errNumber
		}
		b.change(func(w *patterns.Workload) { w.Rate = v; w.Poisson = w.Poisson && v > 0 })
		return nil
	})
	b.bool(f, "poisson", "random intervals between records", func(w *patterns.Workload, v bool) { w.Poisson = v })
	number(b, f, "producers", "number of concurrent producers", func(w *patterns.Workload, v int) { w.Producers = v })
	b.text(f, "put", "`how`: single, batch or async (through a producer)", func(w *patterns.Workload, v string) {
		w.Put = v
		if v != patterns.PutAsync {
			w.Aggregate = false
		}
		if v != patterns.PutSingle && w.Batch == 1 {
			w.Batch = 0
		}
	})
	number(b, f, "batch", "largest number of records in a call", func(w *patterns.Workload, v int) { w.Batch = v })
	b.time(f, "linger", "time that a record may wait for others", func(w *patterns.Workload, v patterns.Duration) { w.Linger = v })
	number(b, f, "window", "largest number of records without an acknowledgement, with -put async", func(w *patterns.Workload, v int) { w.Window = v })
	b.bool(f, "aggregate", "pack records into aggregates, with -put async", func(w *patterns.Workload, v bool) { w.Aggregate = v })
}

func (b *Flags) registerLog(f *flag.FlagSet) {
	number(b, f, "shards", "shards of the stream", func(w *patterns.Workload, v int) { w.Shards = v })
	b.text(f, "sync", "`durability`: always, interval or never", func(w *patterns.Workload, v string) { w.Sync = v })
	b.bool(f, "memory", "keep everything in memory", func(w *patterns.Workload, v bool) { w.Memory = v })
	b.text(f, "compression", "none, s2 or zstd", func(w *patterns.Workload, v string) { w.Compression = v })
	b.text(f, "limits", "none or kinesis", func(w *patterns.Workload, v string) { w.Limits = v })
	number(b, f, "consumers", "number of consumers, each of which reads everything", func(w *patterns.Workload, v int) { w.Consumers.Count = v })
	b.text(f, "mode", "`how` they read: tail, poll, fanout or group", func(w *patterns.Workload, v string) { w.Consumers.Mode = v })
	number(b, f, "workers", "workers of each, with -mode group", func(w *patterns.Workload, v int) { w.Consumers.Workers = v })
	b.time(f, "poll", "interval between their reads, with -mode poll", func(w *patterns.Workload, v patterns.Duration) { w.Consumers.PollEvery = v })
	b.time(f, "drain", "time to wait at the end for acknowledgements and deliveries", func(w *patterns.Workload, v patterns.Duration) { w.Drain = v })
}

// Errors that the flag package appends to the name and the value.
var (
	errNumber = fmt.Errorf("not a number")
	errForm   = fmt.Errorf("not of that form")
)

// change adds a change that a flag makes to each workload.
func (b *Flags) change(f func(*patterns.Workload)) { b.changes = append(b.changes, f) }

func (b *Flags) text(f *flag.FlagSet, name, usage string, set func(*patterns.Workload, string)) {
	f.Func(name, usage, func(s string) error {
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

func (b *Flags) time(f *flag.FlagSet, name, usage string, set func(*patterns.Workload, patterns.Duration)) {
	f.Func(name, usage+", a `duration` such as 10s", func(s string) error {
		v, err := time.ParseDuration(s)
		b.change(func(w *patterns.Workload) { set(w, patterns.Duration(v)) })
		return err
	})
}

func number[T int | int64](b *Flags, f *flag.FlagSet, name, usage string, set func(*patterns.Workload, T)) {
	f.Func(name, usage, func(s string) error {
		v, err := strconv.ParseInt(s, 10, strconv.IntSize)
		if err != nil {
			return errNumber
		}
		b.change(func(w *patterns.Workload) { set(w, T(v)) })
		return nil
	})
}

// parts splits KIND:A:B and parses the numbers.
func parts(s string, most int) (kind string, numbers []float64, err error) {
	fields := strings.Split(s, ":")
	if len(fields) > most+1 {
		return "", nil, errForm
	}
	for _, f := range fields[1:] {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return "", nil, errForm
		}
		numbers = append(numbers, v)
	}
	return fields[0], append(numbers, 0, 0, 0), nil
}

func (b *Flags) size(s string) error {
	if n, err := strconv.Atoi(s); err == nil {
		b.change(func(w *patterns.Workload) { w.Sizes = patterns.Sizes{Kind: patterns.SizeFixed, Bytes: n} })
		return nil
	}
	kind, n, err := parts(s, 3)
	if err != nil {
		return err
	}
	b.change(func(w *patterns.Workload) {
		w.Sizes = patterns.Sizes{Kind: kind, Bytes: int(n[0]), Sigma: n[1], Max: int(n[2])}
	})
	return nil
}

func (b *Flags) keys(s string) error {
	kind, n, err := parts(s, 2)
	if err != nil {
		return err
	}
	k := patterns.Keys{Kind: kind, Count: int(n[0])}
	switch kind {
	case patterns.KeyZipf:
		k.Exponent = n[1]
	case patterns.KeyHot:
		k.HotShare = n[1]
	case patterns.KeyLines:
		k.Count, k.Field = 0, int(n[0])
	}
	b.change(func(w *patterns.Workload) { w.Keys = k })
	return nil
}

// workloads returns the requested workloads with the changes of the flags.
func (b *Flags) workloads(names []string, read func(string) ([]byte, error)) (all []patterns.Workload, err error) {
	if b.count < 1 || b.count > 1000 {
		return nil, &shardlog.InvalidError{Field: "count", Value: b.count, Limit: "1 to 1000"}
	}
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
			return nil, fmt.Errorf("%s: %w", b.file, err)
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
