// Command shardlog serves a log over the Kinesis protocol and works on logs
// from the command line. See "shardlog help".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// Exit codes. A command that a signal has ended before its work was done returns
// 128 and the signal's number, see interrupted.
const (
	exitOK    = 0
	exitFail  = 1 // the command failed
	exitUsage = 2 // the command line was not understood
)

// errUsage is returned for arguments that were not understood, once a message
// about them has been printed.
var errUsage = errors.New("usage")

// command is one command, called by its words, such as "stream create".
type command struct {
	words string
	args  string // what follows the flags, for the usage line
	short string
	long  string
	run   func(*env, []string) error
}

// flagSet is the set that commands add their flags to.
type flagSet = flag.FlagSet

// env is the environment of a command: its context and its standard streams.
// Tests replace them.
type env struct {
	ctx    context.Context
	cmd    *command
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

var commands []*command

func init() {
	commands = append(commands, serveCommand)
	commands = append(commands, streamCommands...)
	commands = append(commands, putCommand, tailCommand)
	commands = append(commands, benchCommands...)
	commands = append(commands, costCommand, checkCommand, versionCommand, completionCommand)
}

func main() {
	ctx, stop := untilInterrupted(os.Stderr, os.Exit)
	code := run(&env{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code.
func run(e *env, args []string) int {
	if len(args) == 0 {
		usage(e.stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		return help(e, args[1:])
	}
	cmd, rest := find(args)
	if cmd == nil {
		fmt.Fprintf(e.stderr, "shardlog: no command %q; see shardlog help\n", strings.Join(args[:min(2, len(args))], " "))
		return exitUsage
	}
	e.cmd = cmd
	out := &results{Writer: e.stdout}
	e.stdout = out
	err := cmd.run(e, rest)
	if errors.Is(err, flag.ErrHelp) {
		err = nil
	}
	if err == nil && out.err != nil {
		err = fmt.Errorf("writing the results: %w", out.err)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	}
	if i := interruption(e.ctx); i != nil && errors.Is(err, context.Canceled) {
		// Other errors say only which wait has ended.
		var p *partial
		if errors.As(err, &p) {
			err = &partial{i, p.done}
		} else {
			err = i
		}
		fmt.Fprintln(e.stderr, "shardlog:", err)
		return i.exitCode()
	}
	fmt.Fprintln(e.stderr, "shardlog:", strings.TrimPrefix(err.Error(), "shardlog: "))
	return exitFail
}

// find returns the command that args begin with, and what follows it.
func find(args []string) (*command, []string) {
	for _, c := range commands {
		words := strings.Fields(c.words)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.words {
			return c, args[len(words):]
		}
	}
	return nil, nil
}

func usage(w io.Writer) {
	fmt.Fprint(w, `shardlog serves a durable event log over the protocol of Amazon Kinesis.

Usage:

    shardlog COMMAND [flags] [arguments]

Commands:

`)
	for _, c := range commands {
		fmt.Fprintf(w, "    %-17s %s\n", c.words, c.short)
	}
	fmt.Fprint(w, `
"shardlog help COMMAND" describes a command. Commands on streams work on a directory
(-dir) or on any Kinesis endpoint (-endpoint).

Results are on standard output, errors on standard error. Exit codes: 0 success,
1 failure, 2 the command line was not understood, 130 or 143 ended by SIGINT or
SIGTERM before the work was done. The first signal ends a command in order, a
second one immediately.
`)
}

func help(e *env, args []string) int {
	if len(args) == 0 {
		usage(e.stdout)
		return exitOK
	}
	cmd, _ := find(args)
	if cmd == nil {
		fmt.Fprintf(e.stderr, "shardlog: no command %q; see shardlog help\n", strings.Join(args, " "))
		return exitUsage
	}
	return run(e, append(strings.Fields(cmd.words), "-h"))
}

// flags returns an empty flag set for the command, to be parsed with parse.
func (e *env) flags() *flagSet {
	f := flag.NewFlagSet(e.cmd.words, flag.ContinueOnError)
	f.SetOutput(io.Discard) // parse prints what is wrong, without all of the help
	f.Usage = func() {}
	return f
}

// help prints the help of the command.
func (e *env) help(f *flagSet) {
	fmt.Fprintf(e.stdout, "Usage: shardlog %s [flags] %s\n\n%s\n\nFlags:\n\n", e.cmd.words, e.cmd.args, strings.TrimSpace(e.cmd.long))
	f.SetOutput(e.stdout)
	f.PrintDefaults()
}

// results is standard output. A command whose results could not be written has
// failed, whatever it did.
type results struct {
	io.Writer
	mu  sync.Mutex
	err error
}

// Write implements io.Writer.
func (r *results) Write(b []byte) (int, error) {
	n, err := r.Writer.Write(b)
	if err != nil {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
	return n, err
}

// parse reads flags, which may also follow arguments, and returns the
// arguments. Want is the required number of arguments, -1 for any number.
func (e *env) parse(f *flagSet, args []string, want int) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				e.help(f)
				return nil, err
			}
			return nil, e.misused("%v", err)
		}
		args = f.Args()
		if len(args) == 0 {
			break
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	if want == 0 && len(rest) > 0 {
		return nil, e.misused("takes no arguments, got %q", rest[0])
	}
	if want >= 0 && len(rest) != want {
		return nil, e.misused("expected %d arguments (%s), got %d", want, e.cmd.args, len(rest))
	}
	return rest, nil
}

// misused prints what is wrong with the command line and returns errUsage.
func (e *env) misused(format string, args ...any) error {
	fmt.Fprintf(e.stderr, "shardlog %s: %s; see shardlog help %[1]s\n", e.cmd.words, fmt.Sprintf(format, args...))
	return errUsage
}
