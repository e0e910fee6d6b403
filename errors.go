package shardlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors of the log and its clients. They are wrapped in an *Error or one of
// the other types here; test for them with errors.Is.
var (
	// ErrInvalid: an argument is out of its limits; an *InvalidError says
	// which. Nothing was changed.
	ErrInvalid = errors.New("invalid argument")
	// ErrNotFound: no such stream, shard or row.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken.
	ErrExists = errors.New("already exists")
	// ErrClosed: the database, stream, producer or consumer was closed.
	ErrClosed = errors.New("closed")
	// ErrShardClosed: the shard was split or merged and takes no more records.
	ErrShardClosed = errors.New("shard is closed")
	// ErrWrongShard: a record's hash key is outside the shard's range.
	ErrWrongShard = errors.New("hash key outside the shard's range")
	// ErrThroughputExceeded: over a rate limit; the *Error has RetryAfter.
	ErrThroughputExceeded = errors.New("throughput exceeded")
	// ErrExpired: retention has removed records after the position; a
	// *TrimmedError says how many.
	ErrExpired = errors.New("expired by retention")
	// ErrCorrupt: stored bytes fail their checksum or make no sense; a
	// *CorruptError says where.
	ErrCorrupt = errors.New("corrupt")
	// ErrConflict: the state is not the one that the caller expected.
	ErrConflict = errors.New("conflict")
	// ErrNoSpace: the disk is too full to take the write safely. It heals
	// when there is room again.
	ErrNoSpace = errors.New("no space left for the log")
	// ErrLocked: another process has the directory open.
	ErrLocked = errors.New("locked by another process")
	// ErrVersion: the directory was written by a newer version of the format.
	ErrVersion = errors.New("unsupported format version")
	// ErrStorage: the storage engine failed in a way after which its state
	// is not certain; the database refuses writes until it is opened again.
	ErrStorage = errors.New("storage failed")
	// ErrNotTried: the record was left alone because an earlier one in the
	// same call failed; it is certainly not stored.
	ErrNotTried = errors.New("not tried because an earlier record failed")
	// ErrFenced: a newer producer with the same identity has taken over; this
	// one can store nothing any more.
	ErrFenced = errors.New("fenced by a newer producer")
	// ErrUnsupported: the sink or source cannot do what was asked for.
	ErrUnsupported = errors.New("not supported")
	// ErrUnknownOutcome: the caller stopped waiting, or the storage failed,
	// while a write was under way; it may or may not be there.
	ErrUnknownOutcome = errors.New("outcome unknown")
)

// Error says in which operation and where an error arose.
type Error struct {
	// Op is the operation, such as "put".
	Op string
	// Stream and Shard are where, as far as known.
	Stream, Shard string
	// RetryAfter is when it makes sense to try again; 0 when not known.
	RetryAfter time.Duration
	// Err is the cause, never nil.
	Err error
}

// Error describes e in one line. Where e wraps another Error, what both have in
// common is said once.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("shardlog: ")
	if wait := e.describe(&b, Error{}); wait > 0 {
		fmt.Fprintf(&b, " (retry after %v)", wait)
	}
	return b.String()
}

// describe writes what e says in addition to the errors around it, and returns
// the longest time to wait.
func (e *Error) describe(b *strings.Builder, around Error) (wait time.Duration) {
	if e.Op != "" && e.Op != around.Op {
		b.WriteString(e.Op + ": ")
		around.Op = e.Op
	}
	if e.Stream != "" && e.Stream != around.Stream {
		fmt.Fprintf(b, "stream %q: ", e.Stream)
		around.Stream = e.Stream
	}
	if e.Shard != "" && e.Shard != around.Shard {
		b.WriteString(e.Shard + ": ")
		around.Shard = e.Shard
	}
	if inner, ok := e.Err.(*Error); ok {
		return max(e.RetryAfter, inner.describe(b, around))
	}
	b.WriteString(strings.ReplaceAll(e.Err.Error(), "\n", "; ")) // several faults are a line each
	return e.RetryAfter
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// InvalidError names the argument that was refused, its value and the limit
// that it broke. It matches ErrInvalid.
type InvalidError struct {
	// Field is the name of the parameter or option.
	Field string
	// Value is what was given, cut short where it is long.
	Value any
	// Limit says what is allowed.
	Limit string
}

// Error describes e in one line.
func (e *InvalidError) Error() string {
	v := fmt.Sprintf("%v", e.Value)
	if s, ok := e.Value.(string); ok {
		v = fmt.Sprintf("%q", s)
	}
	if len(v) > 80 {
		v = strings.ToValidUTF8(v[:77], "") + "..."
	}
	return fmt.Sprintf("invalid %s %s: must be %s", e.Field, v, e.Limit)
}

// Unwrap returns ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// TrimmedError says that retention has overtaken a position. It matches
// ErrExpired.
type TrimmedError struct {
	// From is the position that was asked for.
	From Position
	// Oldest is where the retained records of the shard begin.
	Oldest Position
	// Missed is how many sequence numbers lie between the two: an upper
	// bound of the records lost to the reader.
	Missed uint64
}

// Error describes e in one line.
func (e *TrimmedError) Error() string {
	return fmt.Sprintf("position %v has expired: up to %d records were removed by retention before %v", e.From, e.Missed, e.Oldest)
}

// Unwrap returns ErrExpired.
func (e *TrimmedError) Unwrap() error { return ErrExpired }

// CorruptError says where stored bytes are damaged. It matches ErrCorrupt.
type CorruptError struct {
	// Shard is the shard's ID.
	Shard string
	// First and Last bound the records that cannot be read.
	First, Last SequenceNumber
	// Offset is where in the stored block the damage was found, in bytes;
	// -1 when the whole block is missing.
	Offset int64
	// Reason says what is wrong.
	Reason string
	// Next is where the readable records continue.
	Next Position
	// Damage is the file, where that is known; else nil.
	Damage *DamageError
}

// Error describes e in one line.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt block in %s, records %v to %v, offset %d: %s", e.Shard, e.First, e.Last, e.Offset, e.Reason)
}

// Unwrap returns ErrCorrupt, and Damage where there is one.
func (e *CorruptError) Unwrap() []error {
	if e.Damage != nil {
		return []error{ErrCorrupt, e.Damage}
	}
	return []error{ErrCorrupt}
}

// ConflictError says that a shard's last record is not the expected one. It
// matches ErrConflict.
type ConflictError struct {
	// Expected is what the caller gave, Actual what the shard has; unset
	// means no record.
	Expected, Actual SequenceNumber
}

// Error describes e in one line.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("conflict: expected last sequence number %q, found %q", e.Expected, e.Actual)
}

// Unwrap returns ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// Retryable reports whether the same call may succeed later without a change:
// rate limits, a full disk, records that were not tried, and an unknown outcome
// are retryable (the last may store a record twice); bad arguments, closed handles, conflicts, corruption,
// failed storage and the end of a context are not.
func Retryable(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrStorage) {
		return false
	}
	for _, retryable := range []error{ErrThroughputExceeded, ErrNoSpace, ErrUnknownOutcome, ErrNotTried} {
		if errors.Is(err, retryable) {
			return true
		}
	}
	return false
}
