// Command kinesis is "shardlog bench" for any Kinesis endpoint: the same
// workloads and reports, on AWS, on "shardlog serve" or on another emulator,
// through the AWS SDK. It is a module of its own because of the SDK.
//
//	go run ./benchmarks/kinesis -endpoint http://127.0.0.1:4567 -mode poll clickstream
//
// Each run creates a stream, which on AWS costs money while it exists, and
// deletes it. Credentials and region are those of the AWS command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/benchmarks/patterns/benchcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program immediately
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes a command line and returns the exit code: 0, 1 for a failure, 2 if
// the command line was not understood.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("kinesis", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "Usage: kinesis [flags] [WORKLOAD ...]\n%s\n\nA stream is created for each run, and deleted.\n\nFlags:\n\n", benchcmd.Long)
		f.PrintDefaults()
	}
	b := benchcmd.Register(f)
	t := &target{}
	t.endpoint, t.prefix = os.Getenv("AWS_ENDPOINT_URL_KINESIS"), "shardlog-bench-"
	text(f, &t.endpoint, "endpoint", "`URL` of the endpoint; that of AWS_ENDPOINT_URL_KINESIS by default, or AWS's own", checkEndpoint)
	text(f, &t.region, "region", "`region`; that of the AWS command line by default, or us-east-1 with an -endpoint", nil)
	text(f, &t.prefix, "prefix", "what the `names` of the streams begin with; shardlog-bench- by default", nil)
	names, err := benchcmd.Parse(f, args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if err = t.connect(ctx); err == nil {
		err = b.Run(ctx, t, names, stdout, stderr)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "kinesis:", strings.TrimPrefix(err.Error(), "shardlog: "))
	if errors.Is(err, shardlog.ErrInvalid) {
		return 2
	}
	return 1
}

// text adds a flag that must not be empty where it is given: an empty one is as a
// rule a variable of a script that is not set, and here would mean AWS.
func text(f *flag.FlagSet, v *string, name, usage string, check func(string) error) {
	f.Func(name, usage, func(s string) error {
		if s == "" {
			return errors.New("must not be empty")
		}
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		*v = s
		return nil
	})
}

func checkEndpoint(s string) error {
	if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("must be a URL such as http://127.0.0.1:4567")
	}
	return nil
}
