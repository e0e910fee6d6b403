package main

import (
	"context"
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/benchmarks/patterns"
	"github.com/shardlog/shardlog/benchmarks/patterns/benchcmd"
)

var benchCommands = []*command{{
	words: "bench list", short: "list the built-in workloads",
	long: `Prints the names of the built-in workloads, with a description of each.`,
	run: func(e *env, args []string) error {
		if _, err := e.parse(e.flags(), args, 0); err != nil {
			return err
		}
		return benchcmd.List(e.stdout)
	},
}, {
	words: "bench show", args: "WORKLOAD", short: "print a workload as YAML",
	long: `Prints a built-in workload as YAML, as a start for your own.`,
	run: func(e *env, args []string) error {
		rest, err := e.parse(e.flags(), args, 1)
		if err != nil {
			return err
		}
		return e.misusedIfInvalid(benchcmd.Show(e.stdout, rest[0]))
	},
}, {
	words: "bench merge", args: "OUT.json A.json ...", short: "combine the runs of several reports",
	long: `Writes a report with the runs of all others, for example of two builds that were run in turn.`,
	run: func(e *env, args []string) error {
		rest, err := e.parse(e.flags(), args, -1)
		if err != nil {
			return err
		}
		if len(rest) < 2 {
			return e.misused("expected OUT.json and one or more reports")
		}
		return e.misusedIfInvalid(benchcmd.Merge(rest[0], rest[1:]))
	},
}, {
	words: "bench compare", args: "A.json B.json ...", short: "compare reports of benchmarks",
	long: `
Compares reports with the first one, and says which differences are larger than
the noise: by the Mann-Whitney U test over repeated runs, with p <= 0.05.
Run each side with -count 6 or more, in turn if you can.`,
	run: func(e *env, args []string) error {
		f := e.flags()
		asJSON := f.Bool("json", false, "print JSON")
		var html string
		textFlag(f, &html, "html", "", "write an HTML page with charts side by side to this `file`; one report is enough", nil)
		rest, err := e.parse(f, args, -1)
		if err != nil {
			return err
		}
		return e.misusedIfInvalid(benchcmd.Compare(rest, *asJSON, html, e.stdout))
	},
}, {
	words: "bench", args: "[WORKLOAD ...]", short: "run workloads and measure them",
	long: benchcmd.Long + `

Each run creates a log, by default in a temporary directory. "go run
./benchmarks/kinesis" in the source tree runs workloads on any Kinesis endpoint.`,
	run: bench,
}}

func bench(e *env, args []string) error {
	f := e.flags()
	b := benchcmd.Register(f)
	target := &patterns.InProcess{}
	textFlag(f, &target.Dir, "dir", "", "`directory` in which the log is created; a temporary one by default", nil)
	names, err := e.parse(f, args, -1)
	if err != nil {
		return err
	}
	err = b.Run(e.ctx, target, names, e.stdout, e.stderr)
	if err == nil {
		err = context.Cause(e.ctx) // which left the report with what was run before
	}
	return e.misusedIfInvalid(err)
}

// misusedIfInvalid reports an invalid argument as a misuse of the command line;
// what a file holds is none.
func (e *env) misusedIfInvalid(err error) error {
	var file *benchcmd.FileError
	if errors.Is(err, shardlog.ErrInvalid) && !errors.As(err, &file) {
		return e.misused("%v", err)
	}
	return err
}
