package consumer

import (
	"time"

	"github.com/shardlog/shardlog"
)

// Stats describes a consumer at one moment. The names are those of the metrics
// of the Kinesis Client Library where there is one with that meaning.
type Stats struct {
	// WorkerID is the name under which the consumer holds its shards.
	WorkerID string
	// Workers is how many workers of the group are alive, this one included.
	Workers int
	// CurrentLeases is how many shards this consumer has, and TotalLeases how
	// many there are to have: not ended, and not waiting for a parent.
	CurrentLeases, TotalLeases int
	// NeededLeases is how many of them no worker has.
	NeededLeases int
	// TakenLeases and LostLeases count the shards that this consumer took, and
	// those that it lost to others without having given them up.
	TakenLeases, LostLeases uint64
	// MillisBehindLatest is the largest of the shards that this consumer has.
	MillisBehindLatest int64
	// RecordsProcessed and DataBytesProcessed count what the handler is done
	// with.
	RecordsProcessed, DataBytesProcessed uint64
	// PrefetchedBytes is the size of the records that wait for the handler.
	PrefetchedBytes int64
	// Shards has an entry for each shard that Run has seen, sorted by ID.
	Shards []ShardStats
}

// ShardStats describes the work on one shard, since Run began.
type ShardStats struct {
	// ShardID names the shard.
	ShardID string
	// Owner is the worker that has the shard, as far as this consumer knows;
	// "" when none has.
	Owner string
	// Epoch is the fencing token of the shard's lease when this consumer last
	// took it; 0 when it did not.
	Epoch uint64
	// Delivered and DeliveredBytes are how many records the handler is done
	// with, and their sizes together.
	Delivered, DeliveredBytes uint64
	// DeadLetters is how many records went to the dead letters or were dropped.
	DeadLetters uint64
	// Dropped is how many records were lost because the dead letters refused
	// them permanently and Options.OnRefused let the shard continue.
	Dropped uint64
	// Checkpoint is what the store has; it may be behind Delivered by
	// Options.CheckpointEvery.
	Checkpoint shardlog.Position
	// Behind and BehindRecords are how far the last page read was behind the
	// newest record of the shard, as shardlog.Page has them.
	Behind        time.Duration
	BehindRecords int64
	// Attempts is how often the batch at hand was given to the handler; 0
	// when there is none.
	Attempts int
	// Failures is how many calls of the handler did not succeed.
	Failures uint64
	// OutOfRange is how many user records of aggregated ones were left out
	// because they belong to another shard. DamagedAggregates is how many
	// aggregated records could not be de-aggregated, and BadDigests how many
	// began like one but were none.
	OutOfRange, DamagedAggregates, BadDigests uint64
	// Throttled is how many reads were refused because of a rate limit.
	Throttled uint64
	// HandlerTime is how long the handler has worked, all calls together.
	HandlerTime time.Duration
	// InHandlerSince is when the call of the handler began that is under way;
	// zero when there is none.
	InHandlerSince time.Time
	// Blocked says why the shard does not advance, such as "parent
	// shardId-000000000000" or "handler, attempt 3: ..."; "" when it does.
	// BlockedSince is since when.
	Blocked      string
	BlockedSince time.Time
	// Ended is set when the shard is closed and everything in it was done.
	Ended bool
}

// block sets why the shard does not advance.
func (s *ShardStats) block(why string) {
	if why == "" {
		s.BlockedSince = time.Time{}
	} else if s.Blocked == "" {
		s.BlockedSince = time.Now()
	}
	s.Blocked = why
}
