package producer

import (
	"context"
	"errors"
	"time"

	"github.com/shardlog/shardlog"
)

// Stats describes a producer at one moment. The counters begin with New and
// only grow. Where the Kinesis Producer Library (KPL) has a figure, its name
// there is in parentheses; a user record is one that was put, a Kinesis record
// one that is stored, which may be an aggregate.
type Stats struct {
	// Received is how many records were taken (UserRecordsReceived), Rejected
	// how many were not because the buffer was full.
	Received, Rejected uint64
	// Pending and PendingBytes are what the buffer holds: records that have no
	// result or whose callback has not returned (UserRecordsPending), and the
	// sum of their sizes.
	Pending      int
	PendingBytes int64
	// Waiting is how many calls wait for room in the buffer.
	Waiting int
	// OldestAge is how long ago the oldest record without a result was taken;
	// 0 when there is none (getOldestRecordTimeInMillis).
	OldestAge time.Duration
	// Put and PutBytes are how many records are stored, and their sizes
	// (UserRecordsPut, UserRecordsDataPut).
	Put, PutBytes uint64
	// Stored and StoredBytes are how many records the sink has stored for
	// these, and their sizes (KinesisRecordsPut, KinesisRecordsDataPut).
	Stored, StoredBytes uint64
	// Failed is how many records got an error for a result, and Expired how
	// many of these because of Options.TTL (UserRecordExpired).
	Failed, Expired uint64
	// Requests is how often the sink was called, InFlight how many calls have
	// not returned.
	Requests uint64
	InFlight int
	// Retries is how many failed attempts of a record were followed by another.
	Retries uint64
	// Errors counts the failed attempts of records by what their error
	// matches: "throughput exceeded", "no space", "invalid", "closed",
	// "not found", "shard closed", "wrong shard", "storage", "panic", "fenced",
	// "not tried", "timeout", "unsupported", "unknown outcome", "context" or
	// "other". Those that did not occur are missing (ErrorsByCode).
	Errors map[string]uint64
	// AllErrors is the sum of Errors (AllErrors).
	AllErrors uint64
	// Reordered is how many records the sink stored before an earlier one of
	// their key (see OrderPerKey).
	Reordered uint64
	// CallbackPanics is how many callbacks panicked.
	CallbackPanics uint64

	// Buffering is how long records waited from their acceptance to their first
	// request (BufferingTime).
	Buffering Distribution[time.Duration]
	// RequestTime is how long requests took (RequestTime).
	RequestTime Distribution[time.Duration]
	// RetriesPerRecord is how many attempts after the first one records with a
	// result had, of those that had any (RetriesPerRecord, which counts all).
	RetriesPerRecord Distribution[int64]
	// RecordsPerStored is how many records are in a stored one
	// (UserRecordsPerKinesisRecord).
	RecordsPerStored Distribution[int64]
	// StoredPerRequest is how many records requests gave the sink
	// (KinesisRecordsPerPutRecordsRequest); RecordsPerRequest, how many that
	// were put (UserRecordsPerPutRecordsRequest).
	StoredPerRequest, RecordsPerRequest Distribution[int64]
}

// Distribution sums up values that were measured.
type Distribution[T ~int64] struct {
	// Count is how many there were, Sum their sum.
	Count uint64
	Sum   T
	// Min and Max are the smallest and the largest; 0 when there was none.
	Min, Max T
}

// Mean is the arithmetic mean; 0 when there was no value.
func (d Distribution[T]) Mean() float64 {
	if d.Count == 0 {
		return 0
	}
	return float64(d.Sum) / float64(d.Count)
}

func (d *Distribution[T]) add(v T) {
	if d.Count == 0 {
		d.Min, d.Max = v, v
	}
	d.Count++
	d.Sum += v
	d.Min, d.Max = min(d.Min, v), max(d.Max, v)
}

// counters are what Stats does not take from the state.
type counters struct {
	received, rejected  uint64
	put, putBytes       uint64
	stored, storedBytes uint64
	failed, expired     uint64
	requests, retries   uint64
	reordered, panics   uint64
	errors              [causes]uint64

	buffering, requestTime             Distribution[time.Duration]
	retried, recordsPerSlot            Distribution[int64]
	slotsPerRequest, recordsPerRequest Distribution[int64]
}

// cause is a kind of error.
type cause uint8

const (
	causeOther cause = iota
	causePanic
	causeThroughput
	causeNoSpace
	causeInvalid
	causeClosed
	causeNotFound
	causeShardClosed
	causeWrongShard
	causeStorage
	causeFenced
	causeNotTried
	causeTimeout
	causeUnsupported
	causeUnknown
	causeContext
	causes
)

// kinds are the causes with a sentinel, the more telling first.
var kinds = []struct {
	err   error
	cause cause
}{
	{errExited, causePanic}, // no better than a panic
	{shardlog.ErrThroughputExceeded, causeThroughput},
	{shardlog.ErrNoSpace, causeNoSpace},
	{shardlog.ErrInvalid, causeInvalid},
	{shardlog.ErrClosed, causeClosed},
	{shardlog.ErrNotFound, causeNotFound},
	{shardlog.ErrShardClosed, causeShardClosed},
	{shardlog.ErrWrongShard, causeWrongShard},
	{shardlog.ErrStorage, causeStorage},
	{shardlog.ErrFenced, causeFenced},
	{shardlog.ErrNotTried, causeNotTried},
	{shardlog.ErrUnsupported, causeUnsupported},
	{errTimeout, causeTimeout},
	{shardlog.ErrUnknownOutcome, causeUnknown},
	{context.Canceled, causeContext},
	{context.DeadlineExceeded, causeContext},
}

var causeNames = [causes]string{
	causeOther: "other", causePanic: "panic", causeThroughput: "throughput exceeded", causeNoSpace: "no space",
	causeInvalid: "invalid", causeClosed: "closed", causeNotFound: "not found", causeShardClosed: "shard closed",
	causeFenced: "fenced", causeNotTried: "not tried", causeTimeout: "timeout", causeUnsupported: "unsupported",
	causeWrongShard: "wrong shard", causeStorage: "storage", causeUnknown: "unknown outcome", causeContext: "context",
}

func causeOf(err error) cause {
	var panicked *PanicError
	if errors.As(err, &panicked) {
		return causePanic
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.cause
		}
	}
	return causeOther
}

// Stats returns the state of the producer. It does not block.
func (p *Producer) Stats() Stats {
	p.mu.Lock()
	c := p.stats
	s := Stats{
		Pending: p.records, PendingBytes: p.bytes, Waiting: p.waiting.n, InFlight: p.senders - p.starting,
		Received: c.received, Rejected: c.rejected, Put: c.put, PutBytes: c.putBytes, Failed: c.failed, Expired: c.expired,
		Stored: c.stored, StoredBytes: c.storedBytes,
		Requests: c.requests, Retries: c.retries, Reordered: c.reordered, CallbackPanics: c.panics,
		Buffering: c.buffering, RequestTime: c.requestTime, RetriesPerRecord: c.retried, RecordsPerStored: c.recordsPerSlot,
		StoredPerRequest: c.slotsPerRequest, RecordsPerRequest: c.recordsPerRequest,
	}
	if e := p.age.oldest; e != nil {
		s.OldestAge = time.Duration(p.now() - e.born)
	}
	p.unlock()
	for i, n := range c.errors {
		if n > 0 {
			if s.Errors == nil {
				s.Errors = make(map[string]uint64)
			}
			s.Errors[causeNames[i]] = n
			s.AllErrors += n
		}
	}
	return s
}
