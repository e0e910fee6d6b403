// Package shard works on one shard of a stream: an ordered run of records that
// grows at its end and is removed at its beginning.
//
// A program gets a Shard from stream.Stream.Shard, when it has to do with one
// shard rather than with keys: to read it from a position, to append to it on
// a condition, to follow it, to remove what it no longer needs. Writers that
// only want each record to find its place use stream.Stream.PutRecords, and
// groups of readers that share the shards of a stream use package consumer.
//
// All that a stream guarantees and checks holds for its shards as well: the
// limits of records, rate limits, dedup IDs, durability. The methods of
// stream.Stream that take a shard ID call the ones here.
package shard

import (
	"context"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Shard is a handle on one shard of a stream. All methods are safe for
// concurrent use. It holds no resources, so there is nothing to close; it
// stays valid until the database is closed.
//
// Errors are *shardlog.Error with the operation, the stream and the shard.
// Each method's errors match shardlog.ErrNotFound once the stream was deleted,
// or retention has removed the shard after it was split or merged;
// shardlog.ErrClosed once the database is closed; and the cause of ctx when it
// ends first. A stream that is created again under the name of a deleted one
// has shards of its own: a handle of the old one never touches them.
type Shard struct {
	s     *logstore.Shard
	owner owner
}

// owner is the stream as one of its shards sees it. The stream has what is
// common to shards: who may come in, the limits, the routes of hash keys, what
// is known of producers and dedup IDs, and the lock that keeps writers and
// changes of the set of shards apart.
type owner interface {
	// Name returns the name of the stream.
	Name() string
	// Enter returns why a call cannot be served: the database is closed, ctx
	// is over, the stream was deleted or the shard removed.
	Enter(ctx context.Context, op string) error
	// Fail says where err was met. If the stream was deleted meanwhile the
	// error is that, rather than how the deletion looked to the call.
	Fail(op string, err error) error
	// Describe returns the shard's place in the stream.
	Describe() (shardlog.ShardInfo, error)
	// AdmitRead takes the cost of a call from the read limits.
	AdmitRead(op string) error
	// CountRead takes the cost of a page from the read limits, and notes how
	// far it is behind. A dedicated read costs nothing.
	CountRead(p *shardlog.Page, dedicated bool)
	// AwaitChange waits, at the end of a closed shard, until the change that
	// closed it is visible as a whole, with the children. It fails if that was
	// the deletion of the stream.
	AwaitChange(ctx context.Context) error
	// Children returns the IDs of the shards that continue this one.
	Children() ([]string, error)
	// Append and PutIf are the methods of Shard.
	Append(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error)
	PutIf(ctx context.Context, expected shardlog.SequenceNumber, records []shardlog.Record) ([]shardlog.PutResult, error)
}

// New returns a handle. It is for package stream, which alone has what it
// takes; a program calls stream.Stream.Shard.
func New(s *logstore.Shard, o owner) *Shard { return &Shard{s: s, owner: o} }

// ID returns the shard's ID, such as "shardId-000000000000".
func (s *Shard) ID() string { return s.s.Name() }

// Stream returns the name of the stream that the shard is of.
func (s *Shard) Stream() string { return s.owner.Name() }

// Info describes a shard at one moment.
type Info struct {
	shardlog.ShardInfo
	// LastRecord is the number of the last record, also if retention has
	// removed it since; unset if the shard never had one. It is what PutIf
	// expects. If nothing was left to read when the database was opened, the
	// arrival in it is not known and is 0; PutIf does not look at that.
	LastRecord shardlog.SequenceNumber
	// Records can be read; Bytes are what they take as stored, in Blocks
	// blocks.
	Records, Bytes, Blocks int64
	// Oldest and Newest are the arrivals of the first and of the last record
	// that can be read; zero if there is none.
	Oldest, Newest time.Time
}

// Info returns a description of the shard. It does not block.
func (s *Shard) Info(ctx context.Context) (Info, error) {
	const op = "info"
	if err := s.owner.Enter(ctx, op); err != nil {
		return Info{}, err
	}
	d, err := s.owner.Describe()
	if err != nil {
		return Info{}, s.owner.Fail(op, err)
	}
	i := s.s.Info()
	info := Info{ShardInfo: d, Records: i.Records, Bytes: i.Bytes, Blocks: i.Blocks, Oldest: i.Oldest, Newest: i.Newest}
	if i.Last != i.First {
		info.LastRecord = i.Last
	}
	return info, nil
}

// Append stores records at the end of the shard, all of them or none: together,
// in one transaction, in their order. It blocks until they are as durable as
// the database promises; their memory is the caller's again when it returns.
//
// Each record must belong on the shard: its explicit hash key, or the hash of
// its partition key, has to be in the shard's range, which Info returns. If
// one does not, nothing is stored and the error matches
// shardlog.ErrWrongShard. Writers that do not choose the shard use
// stream.Stream.PutRecords.
//
// A record whose DedupID was stored within the stream's window is not stored
// again; its result has Duplicate set and points to the first one. Results are
// in the order of the records, and none has an error.
//
// In addition to those of Shard, the error matches shardlog.ErrInvalid for records
// out of their limits, more than 16 MiB together or 100,000;
// shardlog.ErrShardClosed once the shard was split or merged;
// shardlog.ErrThroughputExceeded, with a time to wait, if the shard's limits do
// not admit all of them; ErrNoSpace, ErrStorage; or, if ctx ends while the
// write is under way, shardlog.ErrUnknownOutcome. After any but the last,
// nothing was stored.
func (s *Shard) Append(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	return s.owner.Append(ctx, records)
}

// PutIf is Append on the condition that the last record of the shard is the
// one expected, or, if expected is unset, that it never had one: optimistic
// locking for event sourcing. The error matches shardlog.ErrConflict, as a
// *shardlog.ConflictError, if the last record is another. Without records it
// only checks the condition.
//
// Records must not have a DedupID: the condition keeps copies out.
func (s *Shard) PutIf(ctx context.Context, expected shardlog.SequenceNumber, records []shardlog.Record) ([]shardlog.PutResult, error) {
	return s.owner.PutIf(ctx, expected, records)
}

// Trim removes the records before a position, as retention does: whole blocks
// of records, so that up to a block of those just before the position may
// stay. What it has removed is gone as durably as a write is there; readers
// who are behind get shardlog.ErrExpired. shardlog.Latest means all that is
// there when it is called; a position that retention has passed already is no
// error. It blocks until it is done, in steps: if ctx ends or the process is
// killed between two, the oldest records are gone and the others are there. An
// error then matches shardlog.ErrUnknownOutcome: the step that was under way may
// be carried out later. The record numbers, dedup IDs and checkpoints are not affected.
//
// The error matches shardlog.ErrInvalid for a position of another shard.
func (s *Shard) Trim(ctx context.Context, before shardlog.Position) error {
	const op = "trim"
	if err := s.owner.Enter(ctx, op); err != nil {
		return err
	}
	if err := s.s.TrimBefore(ctx, before); err != nil {
		return s.owner.Fail(op, err)
	}
	return nil
}
