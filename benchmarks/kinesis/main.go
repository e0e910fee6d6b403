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
	f.StringVar(&t.endpoint, "endpoint", os.Getenv("AWS_ENDPOINT_URL_KINESIS"), "`URL` of the endpoint; AWS's own if it is empty")
	f.StringVar(&t.region, "region", "", "region; that of the AWS command line if it is empty, or us-east-1 with an -endpoint")
	f.StringVar(&t.prefix, "prefix", "shardlog-bench-", "what the `names` of the streams begin with")
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
