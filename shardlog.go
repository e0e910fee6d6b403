package shardlog

import (
	"context"
	"time"
)

// Header is one pair of strings that travels with a record. Keys may repeat
// and keep their order.
type Header struct {
	Key, Value string
}

// Record is one entry of the log.
//
// A writer sets PartitionKey and Data, and ExplicitHashKey and Headers where
// it needs them; the rest is filled in when the record is read.
//
// Data, PartitionKey and the strings of Headers of a record that was read are
// the reader's own: they may be kept and Data may be changed. A writer's Data
// is copied before the writing call returns.
type Record struct {
	// PartitionKey groups records: those of one key are on one shard and in
	// order. 1 to 256 Unicode code points of valid UTF-8.
	PartitionKey string
	// ExplicitHashKey chooses the shard instead of the partition key's hash.
	// Unset, its zero value, means that the hash decides; 0 is a valid key.
	ExplicitHashKey HashKey
	// Data is the payload; empty is allowed.
	Data []byte
	// Headers are optional pairs of strings; they count towards the record's
	// size.
	Headers []Header
	// DedupID is the same for all copies of a record, and different for other
	// records. A stream that is configured with a window stores one record of
	// an ID in that time, and gives later ones its result; one without a window
	// refuses a DedupID. "" means none; up to MaxDedupIDLength bytes of valid
	// UTF-8. It is kept with the record, but counts towards no size.
	DedupID string

	// Sequence is the record's place in its shard. Output only.
	Sequence SequenceNumber
	// SubSequence is the index of a user record inside the aggregated record
	// that carried it; 0 for a record that was stored alone. Output only.
	SubSequence uint32
	// ShardID names the shard that holds the record. Output only.
	ShardID string
	// Arrival is when the log took the record, in milliseconds. It does
	// not decrease along a shard, unless the clock stepped back by more than an
	// hour, because it was wrong before or is wrong now. Output only.
	Arrival time.Time
}

// Size returns the bytes that count towards the record limit and the shard
// limits: data, partition key, and the keys and values of the headers.
func (r *Record) Size() int {
	n := len(r.Data) + len(r.PartitionKey)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// PutResult is the outcome of one record of a PutRecords call.
type PutResult struct {
	// ShardID and Sequence say where the record is stored; they are empty
	// when Err is set.
	ShardID  string
	Sequence SequenceNumber
	// Duplicate is set when the record was stored by an earlier call, which is
	// where ShardID and Sequence point; see Record.DedupID and PutRequest.
	Duplicate bool
	// Err is nil when the record is stored as durably as the log promises.
	Err error
}

// ShardInfo describes a shard at one moment.
type ShardInfo struct {
	// ID is "shardId-" and twelve digits.
	ID string
	// Parents are the shards that this one was made from: none for an
	// original shard, one after a split, two after a merge. A parent stays
	// listed here after it has expired.
	Parents []string
	// HashStart and HashEnd bound the hash keys of the shard, inclusive.
	HashStart, HashEnd HashKey
	// First is a number just below that of every record of the shard; it is
	// fixed when the shard is created, and no record has it.
	First SequenceNumber
	// Last is the number of the last record of a closed shard, or the number
	// just above First when it had none; unset while the shard is open.
	Last SequenceNumber
	// Closed is set once the shard was split or merged: it takes no more
	// records, and can be read until its last record expires.
	Closed bool
	// Created is when the shard was created, and its parents were closed, in
	// whole milliseconds. The second in its sequence numbers may be a later
	// one: it is at least one above that of its parents, also if one reshard
	// follows another immediately.
	Created time.Time
}

// Sink is where records are written: an in-process stream, or another system
// with the same shape. Implementations are safe for concurrent use.
type Sink interface {
	// Shards lists every shard that still exists, parents before children.
	Shards(ctx context.Context) ([]ShardInfo, error)
	// PutRecords stores the records and returns one result for each, in the
	// order given. The error is set, and the results nil, when the whole call
	// failed and nothing was stored; otherwise each result has its own error.
	// Records of one partition key keep their order, and one that fails takes
	// the later ones of its key in the call with it, so that trying them all
	// again keeps it too. The records' Data is not kept after the call returns.
	PutRecords(ctx context.Context, records []Record) ([]PutResult, error)
}

// Source is where records are read: an in-process stream, or another system
// with the same shape. Implementations are safe for concurrent use.
type Source interface {
	// Shards lists every shard that still exists, parents before children.
	Shards(ctx context.Context) ([]ShardInfo, error)
	// Read returns the records of one shard that follow a position.
	Read(ctx context.Context, req ReadRequest) (Page, error)
}

// ReadRequest asks for one page of one shard.
type ReadRequest struct {
	// ShardID names the shard.
	ShardID string
	// From is where to begin; its zero value is TrimHorizon.
	From Position
	// MaxRecords bounds the page; 0 means 10,000, as in Kinesis, and that is
	// also the largest value.
	MaxRecords int
	// MaxBytes bounds the sum of the records' sizes; 0 means 10 MiB, as in
	// Kinesis, and that is also the largest value. A page holds at least one
	// record, however large, when there is one.
	MaxBytes int
	// Wait is how long to wait for a record when there is none (long poll);
	// 0 returns immediately.
	Wait time.Duration
}

// Page is the answer to a ReadRequest. It belongs to the caller.
type Page struct {
	// Records in order; empty at the tail of the shard.
	Records []Record
	// Next is where to continue. It is set also when there are no records, and
	// then no longer relative: reading again from it misses nothing that was
	// written since.
	Next Position
	// Behind is how far the page's end is behind the newest record of the
	// shard, by arrival; 0 when nothing follows.
	Behind time.Duration
	// BehindRecords is how many stored records follow the page's end.
	BehindRecords int64
	// End is set when the shard is closed and nothing follows the page.
	End bool
	// Children are the shards that continue this one; set with End.
	Children []string
}
