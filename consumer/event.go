package consumer

import (
	"time"

	"github.com/shardlog/shardlog"
)

// EventKind says what happened.
type EventKind string

// The kinds of Event. More may be added; ignore what is not known.
const (
	// EventShardStarted: a shard is being read, from Position on.
	EventShardStarted EventKind = "shard started"
	// EventShardEnded: everything in a closed shard was done.
	EventShardEnded EventKind = "shard ended"
	// EventShardReleased: the consumer gave a shard back, in a shutdown or
	// because another worker asked for it.
	EventShardReleased EventKind = "shard released"
	// EventShardGone: a shard with progress is no longer there; records that
	// were not done, if there were any, have expired with it.
	EventShardGone EventKind = "shard gone"
	// EventTrimmed: retention has overtaken Position; Err has the gap.
	EventTrimmed EventKind = "trimmed"
	// EventCheckpoint: Position was stored.
	EventCheckpoint EventKind = "checkpoint"
	// EventHandlerFailed: a handler returned Err, or panicked with it; the
	// batch comes again after Wait, unless the consumer is stopping.
	EventHandlerFailed EventKind = "handler failed"
	// EventThrottled: the source refused a read because of a rate limit; it
	// is repeated after Wait.
	EventThrottled EventKind = "throttled"
	// EventReadFailed: a read failed and is repeated after Wait.
	EventReadFailed EventKind = "read failed"
	// EventStoreFailed: the store failed and is asked again after Wait.
	EventStoreFailed EventKind = "store failed"
	// EventDiscoverFailed: listing shards or rows, or taking a shard, failed
	// and is repeated after Wait.
	EventDiscoverFailed EventKind = "discovery failed"
	// EventLeaseTaken: the consumer took a shard, with Epoch.
	EventLeaseTaken EventKind = "lease taken"
	// EventLeaseLost: the shard is no longer this consumer's; Err says why.
	EventLeaseLost EventKind = "lease lost"
	// EventLeaseAsked: the consumer asked the worker that has the shard to
	// hand it over.
	EventLeaseAsked EventKind = "lease asked for"
	// EventFenced: the store could not be reached for so long that other
	// workers may take this one for dead, so it stopped its handlers.
	EventFenced EventKind = "fenced"
	// EventRowMissing: a shard of a group that has begun had no row: it is new
	// and has no parents, or the store has lost its row. It is read from
	// Position on, or not at all when there are rows of its children.
	EventRowMissing EventKind = "row missing"
	// EventDeadLetter: a record at Position was given to the dead letters, or
	// dropped if that was asked for, because of Err.
	EventDeadLetter EventKind = "dead letter"
	// EventDeadLetterFailed: the dead letters took no record because of Err;
	// it is tried again after Wait.
	EventDeadLetterFailed EventKind = "dead letter failed"
	// EventDeadLetterRefused: the dead letters will never take the record at
	// Position, because of Err. Options.OnRefused decides what follows.
	EventDeadLetterRefused EventKind = "dead letter refused"
	// EventBisected: a batch that failed with Err is tried again in halves.
	EventBisected EventKind = "bisected"
	// EventAggregateDamaged: a record has the form of an aggregated one, but
	// cannot be de-aggregated because of Err; it is delivered as it is.
	EventAggregateDamaged EventKind = "aggregate damaged"
	// EventShardParked: the shard cannot continue because of Err, but others do;
	// see Options.ParkFailed.
	EventShardParked EventKind = "shard parked"
	// EventFailed: Err ends the consumer.
	EventFailed EventKind = "failed"
)

// Event is one thing that happened. Fields that make no sense for its
// Kind are zero.
type Event struct {
	Kind    EventKind
	ShardID string
	// Position is the place in the shard that it is about.
	Position shardlog.Position
	// Epoch is the fencing token of the shard's lease.
	Epoch uint64
	// Attempt counts from 1 what is being tried.
	Attempt int
	// Wait is the pause before the next attempt.
	Wait time.Duration
	// Err is the cause.
	Err error
}
