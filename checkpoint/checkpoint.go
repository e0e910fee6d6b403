// Package checkpoint defines where the consumers of a group keep their progress:
// one row, a Lease, for each shard, in a Store.
//
// A Store is five methods over single rows. Everything that a group does with
// its rows (taking a shard over, checkpointing, ending a shard) is written in
// package consumer as compare-and-set on a row's Version, so all stores behave
// alike. Package checkpointtest checks that a store keeps the rules.
//
// Memory keeps rows in this process; a database of package stream keeps them
// next to the records.
package checkpoint

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/shardlog/shardlog"
)

// ErrUnavailable: the store did not answer, or refused for now because of its
// load. A write may or may not have been made, so the row has to be read, or
// the write repeated with the same Version, to know. Other errors of a Store
// are those of package shardlog: ErrNotFound, ErrExists, ErrConflict,
// ErrInvalid, ErrCorrupt and ErrClosed. Test for them with errors.Is.
var ErrUnavailable = errors.New("checkpoint store unavailable")

// Limits of a row.
const (
	// MaxNameLength is the longest part of a Key, worker ID or shard ID in a
	// row, in bytes.
	MaxNameLength = 255
	// MaxPreparedState is the largest PreparedState, in bytes.
	MaxPreparedState = 64 << 10
	// MaxLinks is the largest number of Parents, and of Children.
	MaxLinks = 100
)

// Key names a row: one shard of one stream, as one consumer group sees it.
// Each part is 1 to 255 bytes of valid UTF-8; every character is allowed.
type Key struct {
	Group, Stream, Shard string
}

// Compare orders keys by group, stream and shard, byte by byte.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.Group, o.Group); c != 0 {
		return c
	}
	if c := strings.Compare(k.Stream, o.Stream); c != 0 {
		return c
	}
	return strings.Compare(k.Shard, o.Shard)
}

// Lease is one row: who works on a shard, and how far the work is. It holds no
// clock times, so a clock that jumps cannot change who owns a shard.
type Lease struct {
	Key
	// StreamID is the stream that the row is about, as its shardlog.Identified
	// says, because a stream that is deleted may leave its name, and its
	// shards' IDs, to another one. "" if that is not known: the source does not
	// say, or the row is older than this field. Up to MaxNameLength bytes.
	StreamID string
	// Version is given by the Store and is greater after each Update. A value
	// is never used twice for a key, also not after Delete and Create. Create
	// ignores it; Update and Delete ask for the version that the row has.
	Version uint64
	// Epoch is the fencing token: it grows by one each time a worker takes
	// the shard, and by nothing else.
	Epoch uint64
	// Owner is the worker that may process the shard, "" when none does.
	Owner string
	// Next is the worker that Owner is asked to hand the shard to, "" when
	// there is no such request.
	Next string
	// Beat counts the heartbeats of a worker. Package consumer keeps a row for
	// each worker in addition to those of shards, and only there it is not 0:
	// an observer judges by its own monotonic clock how long it has not grown.
	Beat uint64
	// Checkpoint is what has been done; the next owner starts there.
	Checkpoint shardlog.Position
	// Ended is set when the shard is closed and everything in it was done:
	// its children may start.
	Ended bool
	// Prepared and PreparedState are an intention: what the owner is about to
	// have done, and its own notes about it, at most 64 KiB. Nil means none.
	Prepared      *shardlog.Position
	PreparedState []byte
	// Parents are the shards that come before this one, Children those that
	// come after it; the latter are known when Ended is set.
	Parents, Children []string
	// HashStart and HashEnd bound the shard's hash keys, inclusive.
	HashStart, HashEnd shardlog.HashKey
	// Switches counts the times a worker took the shard since the last
	// checkpoint: a large number marks a shard that nobody gets through.
	Switches uint64
}

// Clone returns a copy of l that shares no memory with it.
func (l Lease) Clone() Lease {
	l.PreparedState = slices.Clone(l.PreparedState)
	l.Parents = slices.Clone(l.Parents)
	l.Children = slices.Clone(l.Children)
	if l.Prepared != nil {
		p := *l.Prepared
		l.Prepared = &p
	}
	return l
}

// Store keeps rows. Its methods are safe for concurrent use by several
// processes as far as the store reaches; they may block for I/O, and return
// soon, with an error that matches the context's, when ctx ends. They neither
// keep nor share the slices and pointers of a Lease.
//
// A write is atomic: a reader sees all of it or nothing, and after a nil error
// every later read sees it, in every process. A nil slice and an empty one are
// the same.
//
// Rows and keys outside their limits are refused with an error that matches
// shardlog.ErrInvalid; Lease.Validate and Key.Validate do that for a Store.
type Store interface {
	// Create adds a row and returns it with its Version. The error matches
	// shardlog.ErrExists when there is a row with that key.
	Create(ctx context.Context, l Lease) (Lease, error)
	// Get returns the row as the last completed write left it. The error
	// matches shardlog.ErrNotFound when there is none.
	Get(ctx context.Context, k Key) (Lease, error)
	// List returns every row of a group, in one stream or, with stream "", in
	// all, sorted by Key. Every write that was completed before the call is
	// seen; no rows is not an error.
	List(ctx context.Context, group, stream string) ([]Lease, error)
	// Update replaces the row as a whole if its Version is l.Version, and
	// returns it with its new Version. The error matches shardlog.ErrConflict
	// when the version differs, and shardlog.ErrNotFound when there is no row;
	// nothing was written then.
	Update(ctx context.Context, l Lease) (Lease, error)
	// Delete removes the row with l's key if its Version is l.Version. The
	// errors are those of Update.
	Delete(ctx context.Context, l Lease) error
}

// TxStore is a Store whose rows can be written inside a transaction of the
// caller's own, of type Tx, on the same database: *sql.Tx, or a transaction of
// the stream's Badger database. What the caller writes and the row are then
// there together or not at all.
type TxStore[Tx any] interface {
	Store
	// UpdateTx is Update inside tx. The caller commits tx, or not; only then
	// is the row there, with the version that was returned. The error matches
	// shardlog.ErrConflict when the version differs as tx sees it; when it
	// differs only at the commit, the commit fails or the row is not written.
	UpdateTx(ctx context.Context, tx Tx, l Lease) (Lease, error)
}

// Watcher is a Store that notifies workers of changes, so that they need not
// poll.
type Watcher interface {
	Store
	// Watch returns a channel that has a token soon after a row of the group
	// and stream, in this process, was created or deleted, or got another
	// Owner, Next or Ended. Several changes may be one token; a checkpoint is
	// none. It ends with ctx, and the channel is never closed.
	Watch(ctx context.Context, group, stream string) <-chan struct{}
}

// Provider is implemented by a Source that comes with a Store, such as a stream
// whose database has one. A consumer uses it where its options name no Store.
type Provider interface {
	// Checkpoints returns the Store. It does not block. The Store may be used
	// as long as the Source is open.
	Checkpoints() Store
}
