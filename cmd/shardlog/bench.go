package main

import (
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/benchmarks/patterns"
	"github.com/shardlog/shardlog/benchmarks/patterns/benchcmd"
)

var benchCommands = []*command{{
	words: "bench list", short: "list the workloads that have names",
	long: `Prints the names of workloads and what they are.`,
	run: func(e *env, args []string) error {
		if _, err := e.parse(e.flags(), args, 0); err != nil {
			return err
		}
		return benchcmd.List(e.stdout)
	},
}, {
	words: "bench show", args: "WORKLOAD", short: "print a workload as YAML",
	long: `Prints a workload that has a name, to begin one's own from.`,
	run: func(e *env, args []string) error {
		rest, err := e.parse(e.flags(), args, 1)
		if err != nil {
			return err
		}
		return e.misusedIfInvalid(benchcmd.Show(e.stdout, rest[0]))
	},
}, {
	words: "bench merge", args: "OUT.json A.json ...", short: "put the runs of several reports into one",
	long: `Writes a report that has the runs of all the others, such as those of runs made in turn.`,
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
		html := f.String("html", "", "write a page with charts side by side to this `file`; one report is enough for it")
		rest, err := e.parse(f, args, -1)
		if err != nil {
			return err
		}
		return e.misusedIfInvalid(benchcmd.Compare(rest, *asJSON, *html, e.stdout))
	},
}, {
	words: "bench", args: "[WORKLOAD ...]", short: "run workloads and measure them",
	long: benchcmd.Long + `

The log is a new one in a temporary directory. "go run ./benchmarks/kinesis" in
the source has the same command for any Kinesis endpoint.`,
	run: bench,
}}

func bench(e *env, args []string) error {
	f := e.flags()
	b := benchcmd.Register(f)
	target := &patterns.InProcess{}
	f.StringVar(&target.Dir, "dir", "", "where to make the log; a temporary directory if it is not given")
	names, err := e.parse(f, args, -1)
	if err != nil {
		return err
	}
	return e.misusedIfInvalid(b.Run(e.ctx, target, names, e.stdout, e.stderr))
}

// misusedIfInvalid takes bad arguments for a misuse of the command.
func (e *env) misusedIfInvalid(err error) error {
	if errors.Is(err, shardlog.ErrInvalid) {
		return e.misused("%v", err)
	}
	return err
}
