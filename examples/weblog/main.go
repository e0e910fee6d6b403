// Command weblog runs an access log through a stream: a producer puts each line
// with the client's address as partition key, a consumer counts them, and at
// the end there is a summary.
//
//	go run ./examples/weblog                                # a made-up log
//	go run ./examples/weblog -input access.log -dir ./data  # your own, kept in ./data
//	zcat access.log.gz | go run ./examples/weblog -input - -json
//
// Ended at any moment, also with SIGKILL or by a power failure, and started again with
// the same -dir and input, it continues where it was, and the counts are exact. If
// the log has grown meanwhile, the new lines are read.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/shardlog/shardlog/stream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second signal ends the program immediately.
	context.AfterFunc(ctx, stop)
	os.Exit(mainWith(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// config is what the command line asks for.
type config struct {
	input      string
	dir        string
	seed       uint64
	records    int64
	shards     int
	durability stream.Durability
	json       bool
}

// mainWith is main for tests. It returns the exit code: 0, 1 for a failure, 2
// for an invalid command line.
func mainWith(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cfg, err := parseArgs(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "weblog:", err)
		return 2
	}
	s, err := run(ctx, cfg, stdin, stderr)
	if err == nil {
		err = s.print(stdout, cfg.json)
	}
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
		if cfg.dir != "" {
			err = errors.New("interrupted; start it again with the same -dir and input to continue")
		}
	}
	fmt.Fprintln(stderr, "weblog:", err)
	return 1
}

func parseArgs(args []string, stderr io.Writer) (config, error) {
	var c config
	fs := flag.NewFlagSet("weblog", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&c.input, "input", "", "access log in Apache's combined `file` format, - for standard input; a made-up log if not set")
	fs.StringVar(&c.dir, "dir", "", "`directory` of the stream, kept; a temporary one if not set")
	fs.Uint64Var(&c.seed, "seed", 1, "seed of the made-up log")
	fs.Int64Var(&c.records, "records", 100_000, "lines of the made-up log")
	fs.IntVar(&c.shards, "shards", 4, "shards of the stream")
	fs.BoolVar(&c.json, "json", false, "print the summary as one JSON object")
	durability := fs.String("durability", "always", "when writes are synced: always, interval or never")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(stderr)
			fs.Usage()
		}
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	var errs []error
	fs.Visit(func(f *flag.Flag) {
		if (f.Name == "input" || f.Name == "dir") && f.Value.String() == "" { // a variable of a script that is not set
			errs = append(errs, fmt.Errorf("-%s must not be empty", f.Name))
		}
		if c.input != "" && (f.Name == "seed" || f.Name == "records") {
			errs = append(errs, fmt.Errorf("-%s is for the made-up log and makes no sense with -input", f.Name))
		}
	})
	if c.records < 0 {
		errs = append(errs, fmt.Errorf("-records %d: must be 0 or more", c.records))
	}
	if c.shards < 1 || c.shards > stream.MaxShards {
		errs = append(errs, fmt.Errorf("-shards %d: must be 1 to %d", c.shards, stream.MaxShards))
	}
	var err error
	if c.durability, err = parseDurability(*durability); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

func parseDurability(s string) (stream.Durability, error) {
	for _, d := range []stream.Durability{stream.SyncAlways, stream.SyncInterval, stream.SyncNever} {
		if s == d.String() {
			return d, nil
		}
	}
	return 0, fmt.Errorf("-durability %q: must be always, interval or never", s)
}

// run does the work in cfg.dir or a temporary directory.
func run(ctx context.Context, cfg config, stdin io.Reader, stderr io.Writer) (s *summary, err error) {
	input, err := openInput(cfg, stdin)
	if err != nil {
		return nil, err
	}
	defer input.Close()
	dir := cfg.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "weblog-"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	db, err := stream.Open(filepath.Join(dir, "stream"), &stream.Options{Durability: cfg.durability})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// Records are kept forever, because a later run continues from them.
	st, err := db.Ensure(ctx, "weblog", stream.Config{Shards: cfg.shards, Retention: stream.Forever})
	if err != nil {
		return nil, err
	}
	return process(ctx, db, st, filepath.Join(dir, "counts"), input, newProgress(stderr))
}

func openInput(cfg config, stdin io.Reader) (io.ReadCloser, error) {
	switch cfg.input {
	case "":
		return io.NopCloser(newGenerator(cfg.seed, cfg.records)), nil
	case "-":
		return io.NopCloser(stdin), nil
	}
	return os.Open(cfg.input)
}

// process produces and consumes at the same time, and ends when every record
// was counted.
func process(ctx context.Context, db *stream.DB, st *stream.Stream, dir string, input io.Reader, p *progress) (*summary, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	shards, err := st.Shards(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := readIndex(ctx, st, shards)
	if err != nil {
		return nil, err
	}
	c, err := openCounts(dir, db.Sync, fail)
	if err != nil {
		return nil, err
	}
	if err := c.check(ctx, st, stored); err != nil {
		return nil, err
	}
	before, begin := c.total(), time.Now()
	p.start(c)
	defer p.stop()
	stop, err := startCounting(st, c)
	if err != nil {
		return nil, err
	}
	made, err := produce(ctx, st, input, stored, p)
	if err == nil {
		err = c.waitFor(ctx, made.last)
	}
	took := time.Since(begin)
	if err = errors.Join(err, stop()); err != nil {
		return nil, err
	}
	s := c.summary(shards)
	if n := stored.records + made.put; s.Records != n {
		return nil, fmt.Errorf("%d records are stored, but %d were counted", n, s.Records)
	}
	if s.Records == 0 && made.malformed > 0 {
		return nil, fmt.Errorf("no line is of an access log: %d lines are malformed", made.malformed)
	}
	s.Malformed, s.Empty, s.Resumed = made.malformed, made.empty, made.skipped
	s.Produced, s.Consumed = newRate(made.put, made.took), newRate(s.Records-before, took)
	return s, nil
}
