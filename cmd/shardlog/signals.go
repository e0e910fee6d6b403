package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// interrupted is the cause with which a signal ends the context of a command.
type interrupted struct{ signal syscall.Signal }

// Error implements error.
func (i *interrupted) Error() string {
	if i.signal == syscall.SIGTERM {
		return "terminated"
	}
	return "interrupted"
}

// Is makes an interruption match context.Canceled, as other ends of a context do.
func (i *interrupted) Is(target error) bool { return target == context.Canceled }

// exitCode is what shells report for a process that the signal has ended.
func (i *interrupted) exitCode() int { return 128 + int(i.signal) }

// interruption returns the interruption that ended ctx, nil if none did.
func interruption(ctx context.Context) *interrupted {
	var i *interrupted
	if !errors.As(context.Cause(ctx), &i) {
		return nil
	}
	return i
}

const (
	// echo is the time after the first signal in which others belong to it:
	// timeout(1) sends its signal to the process and then to its group.
	echo = 100 * time.Millisecond
	// quiet is the time after the first signal in which a command may end
	// without a message. Closing a log takes some of it.
	quiet = time.Second
)

// untilInterrupted returns a context that the first SIGINT or SIGTERM ends, with
// an *interrupted as its cause. The command then ends in order. The second signal
// ends the process, whatever it is waiting for.
func untilInterrupted(stderr io.Writer, exit func(int)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go onSignals(signals, cancel, stderr, exit)
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
	}
}

// onSignals ends a command by the signals that come, until the channel is
// closed. If the command takes long to end, a message says what the next signal
// does.
func onSignals(signals <-chan os.Signal, cancel context.CancelCauseFunc, stderr io.Writer, exit func(int)) {
	first, ok := <-signals
	if !ok {
		return
	}
	cancel(asInterruption(first))
	began, late := time.Now(), time.After(quiet)
	for {
		select {
		case next, ok := <-signals:
			if !ok {
				return
			}
			if time.Since(began) >= echo {
				exit(asInterruption(next).exitCode())
				return
			}
		case <-late:
			fmt.Fprintln(stderr, "shardlog: stopping; another interrupt ends it immediately")
		}
	}
}

func asInterruption(s os.Signal) *interrupted {
	if n, ok := s.(syscall.Signal); ok {
		return &interrupted{n}
	}
	return &interrupted{syscall.SIGINT}
}

// partial is the error of a command that was ended, or failed, after it had done
// a part of its work.
type partial struct {
	err  error
	done string // what was done, as a sentence without its point
}

// Error implements error.
func (p *partial) Error() string { return p.err.Error() + "; " + p.done }

// Unwrap returns why the command ended.
func (p *partial) Unwrap() error { return p.err }

// partly adds what was done to an error; it returns nil if err is nil.
func partly(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &partial{err, fmt.Sprintf(format, args...)}
}

// afterwards returns a context for calls that have begun: it ends some time after
// ctx, so that their outcome is known.
func afterwards(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(patience, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(later, func() { t.Stop() })
	})
	return later, func() {
		stop()
		cancel(nil)
	}
}
