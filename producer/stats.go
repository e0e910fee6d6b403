package producer

import (
	"context"
	"errors"
	"time"

	"github.com/shardlog/shardlog"
)

// Stats describes a producer at one moment. The counters begin with New and
// only grow.
type Stats struct {
	// Received is how many records were taken, Rejected how many were not
	// because the buffer was full.
	Received, Rejected uint64
	// Pending and PendingBytes are what the buffer holds: records that have no
	// result or whose callback has not returned, and the sum of their sizes.
	Pending      int
	PendingBytes int64
	// Waiting is how many calls wait for room in the buffer.
	Waiting int
	// OldestAge is how long ago the oldest record without a result was taken;
	// 0 when there is none.
	OldestAge time.Duration
	// Put and PutBytes are how many records are stored, and their sizes.
	Put, PutBytes uint64
	// Failed is how many records got an error for a result, and Expired how
	// many of these because of Options.TTL.
	Failed, Expired uint64
	// Requests is how often the sink was called, InFlight how many calls have
	// not returned.
	Requests uint64
	InFlight int
	// Retries is how many failed attempts of a record were followed by another.
	Retries uint64
	// Errors counts the failed attempts of records by what their error
	// matches: "throughput exceeded", "no space", "invalid", "closed",
	// "not found", "shard closed", "wrong shard", "storage", "panic",
	// "unknown outcome", "context" or "other". Those that did not occur are
	// missing.
	Errors map[string]uint64
	// Reordered is how many records the sink stored before an earlier one of
	// their key (see OrderPerKey).
	Reordered uint64
	// CallbackPanics is how many callbacks panicked.
	CallbackPanics uint64
}

// counters are what Stats does not take from the state.
type counters struct {
	received, rejected uint64
	put, putBytes      uint64
	failed, expired    uint64
	requests, retries  uint64
	reordered, panics  uint64
	errors             [causes]uint64
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
	{shardlog.ErrUnknownOutcome, causeUnknown},
	{context.Canceled, causeContext},
	{context.DeadlineExceeded, causeContext},
}

var causeNames = [causes]string{
	causeOther: "other", causePanic: "panic", causeThroughput: "throughput exceeded", causeNoSpace: "no space",
	causeInvalid: "invalid", causeClosed: "closed", causeNotFound: "not found", causeShardClosed: "shard closed",
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
		Pending: p.live, PendingBytes: p.liveBytes, Waiting: p.room.n, InFlight: p.senders - p.starting,
		Received: c.received, Rejected: c.rejected, Put: c.put, PutBytes: c.putBytes, Failed: c.failed, Expired: c.expired,
		Requests: c.requests, Retries: c.retries, Reordered: c.reordered, CallbackPanics: c.panics,
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
		}
	}
	return s
}
