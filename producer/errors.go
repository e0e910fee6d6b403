package producer

import (
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
)

// Errors of a Producer, in addition to those of package shardlog. Test for them
// with errors.Is.
var (
	// ErrBufferFull: the buffer has no room and the call does not wait. The
	// record was not accepted.
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
// record had a result. It matches the cause of that, and, if InDoubt is not 0,
// shardlog.ErrUnknownOutcome.
type IncompleteError struct {
	// Left is how many records are not known to be stored. Each got a result
	// that says whether it may be. 0 means that only callbacks, or requests that
	// nobody waits for any more, have not returned.
	Left int
	// InDoubt is how many of these may be stored, or may be later: they were
	// in a request whose outcome is not known. The others never will be.
	InDoubt int
	// Err is why the context ended.
	Err error
}

// Error describes e in one line.
func (e *IncompleteError) Error() string {
	if e.Left == 0 {
		return fmt.Sprintf("shardlog: shutdown: every record has its result, but callbacks or requests have not returned: %v", e.Err)
	}
	return fmt.Sprintf("shardlog: shutdown: %d records are not known to be stored, %d of them may be: %v", e.Left, e.InDoubt, e.Err)
}

// Unwrap returns what e matches.
func (e *IncompleteError) Unwrap() []error {
	if e.InDoubt > 0 {
		return []error{shardlog.ErrUnknownOutcome, e.Err}
	}
	return []error{e.Err}
}

// PanicError is a panic of a callback or of the logger, which Shutdown returns,
// or of the sink; then it is the error of the records in the request.
type PanicError struct {
	// Value is the argument of panic.
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

// putError returns the error of one record.
func putError(err error) error { return &shardlog.Error{Op: "put", Err: err} }

// both returns an error that says what happened and why; it matches both.
func both(what, why error) error {
	if why == nil {
		return what
	}
	return fmt.Errorf("%w: %w", what, why)
}

var (
	errExited  = errors.New("the goroutine exited inside the sink")
	errTimeout = errors.New("the request timed out")
)

// lastAttempt adds the error of an entry's last attempt to what. It is only
// text, and not matched: the record would otherwise seem worth putting again.
func lastAttempt(what error, e *entry) error {
	if cause := e.lastCause(); cause != nil {
		return fmt.Errorf("%w; last attempt: %v", what, cause)
	}
	return what
}

// isUnknown reports whether a record whose result is err may be stored.
func isUnknown(err error) bool { return errors.Is(err, shardlog.ErrUnknownOutcome) }
