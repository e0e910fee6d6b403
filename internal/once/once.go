// Package once recognizes copies of a record, so that a stream stores each
// record once however often it is sent: by the numbers that a producer with an
// identity gives to its records, and by dedup IDs within a window of time.
//
// An Attempt is one try of a call to store records. Reserve finds out which of
// them are stored already and reserves the numbers and IDs of the others, so
// that nobody else stores them meanwhile. The attempt is then attached to the
// group of the log that takes the records: what was reserved becomes part of the
// Identity and of the IDs when the group is committed, in the same transaction,
// and is released if it fails. What no group took is released by the caller.
//
// Who owns what: the state of an Identity is in producerState and that of IDs in
// idTable, whose methods never lock; Identity and IDs are the shells that hold
// the lock and call them. The committer of the log changes both through
// logstore.Participant. An Attempt belongs to the goroutine of its call, and
// while the log is locked to Attach.
//
// Order of locks: Identity.mu, IDs.mu by the number of the stream,
// Identities.mu. Identity.loading is taken with nothing held. None is held across
// I/O except loading, whose waiters respect their context.
package once

import (
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Stream is what the package has to know of the stream whose records are stored
// once. Its functions must be safe for concurrent use and must not call back into
// the package.
type Stream struct {
	Log *logstore.Log
	// ID is the stream's number, which its keys begin with, and which gives the
	// order of locks where a transaction has several streams.
	ID   uint32
	Name string
	// Window returns how long dedup IDs are remembered at present; 0 if the
	// stream takes none.
	Window func() time.Duration
	// Lost reports whether the record with a number is neither stored nor
	// removed by retention, because it was lost in a power failure.
	Lost func(shardlog.SequenceNumber) bool
	// Warn reports what an operator must see.
	Warn func(msg string, err error)
}

// ready is a channel to wait for where there is nothing to wait for.
var ready = func() chan struct{} { c := make(chan struct{}); close(c); return c }()
