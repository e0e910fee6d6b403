package producer

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
)

// Errors of a Producer, besides those of package shardlog. Test for them with
// errors.Is.
var (
	// ErrBufferFull: the buffer has no room and the call does not wait. The
	// record was not taken.
	ErrBufferFull = errors.New("buffer full")
	// ErrTTLExpired: the record was not stored within Options.TTL, and is
	// certain not to be. It wraps the last attempt's error, if there was one.
	ErrTTLExpired = errors.New("not stored within the record's time to live")
)

// BatchError is what PutBatch returns when not every record was stored.
type BatchError struct {
	// Errors has one entry for each record, in the order given, nil for those
	// that are stored.
	Errors []error
}

// Error describes e in one line.
func (e *BatchError) Error() string {
	failed := e.Unwrap()
	if len(failed) == 0 {
		return "no record failed"
	}
	return fmt.Sprintf("%d of %d records failed, the first with: %v", len(failed), len(e.Errors), failed[0])
}

// Unwrap returns the errors that are not nil.
func (e *BatchError) Unwrap() []error {
	var failed []error
	for _, err := range e.Errors {
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// IncompleteError is what Shutdown returns when its context ended before every
// record had a result.
type IncompleteError struct {
	// Left is how many records are not known to be stored. Each got a result
	// that says whether it may be.
	Left int
	// Err is why the context ended.
	Err error
}

// Error describes e in one line.
func (e *IncompleteError) Error() string {
	return fmt.Sprintf("shardlog: shutdown: %d records are not known to be stored: %v", e.Left, e.Err)
}

// Unwrap returns the cause.
func (e *IncompleteError) Unwrap() error { return e.Err }

// PanicError is a panic of a callback or of the logger, which Shutdown returns,
// or of the sink, which is then the error of the records in the request.
type PanicError struct {
	// Value is what was given to panic.
	Value any
	// Stack is the stack of the goroutine that panicked, as debug.Stack
	// formats it.
	Stack []byte
}

// Error describes e in one line, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// putError is the error of one record.
func putError(err error) error { return &shardlog.Error{Op: "put", Err: err} }

// both says what happened and why; errors.Is finds both.
func both(what, why error) error {
	if why == nil {
		return what
	}
	return fmt.Errorf("%w: %w", what, why)
}

// endOf is why ctx ended; it matches ctx.Err() also when there is a cause.
func endOf(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return both(err, cause)
}

var (
	errExited  = errors.New("the goroutine exited inside the sink")
	errTimeout = errors.New("the request timed out")
)

// closedError is the error of a record that was not stored before the producer
// was closed. The last attempt's error is only told, not matched: its record
// would else seem worth putting again.
func closedError(e *entry) error {
	if cause := e.lastCause(); cause != nil {
		return fmt.Errorf("%w; last attempt: %v", shardlog.ErrClosed, cause)
	}
	return shardlog.ErrClosed
}

func (e *entry) lastCause() error {
	if list := e.outcome.res.Attempts; len(list) > 0 {
		return list[len(list)-1].Err
	}
	return nil
}

// notStoredError is the error of an entry that gets no further attempt: why, or, if
// the record may be stored, shardlog.ErrUnknownOutcome, with why as text.
func (e *entry) notStoredError(why error) error {
	switch {
	case e.state == inRequest:
		return putError(fmt.Errorf("%w: a request is in flight: %v", shardlog.ErrUnknownOutcome, why))
	case e.inDoubt:
		return putError(fmt.Errorf("%w of an earlier attempt: %v", shardlog.ErrUnknownOutcome, why))
	}
	return putError(why)
}
