package producer

import "time"

// Stats describes a producer at one moment. The counters begin with New and
// only grow. Where the Kinesis Producer Library (KPL) has a figure, its name
// there is in parentheses; a user record is one that was put, a Kinesis record
// one that is stored, which may be an aggregate.
type Stats struct {
	// Received is how many records were accepted (UserRecordsReceived), Rejected
	// how many were not because the buffer was full.
	Received, Rejected uint64
	// Pending and PendingBytes are what the buffer holds: records that have no
	// result or whose callback has not returned (UserRecordsPending), and the
	// sum of their sizes.
	Pending      int
	PendingBytes int64
	// Waiting is how many calls wait for room in the buffer.
	Waiting int
	// OldestAge is how long ago the oldest record without a result was accepted;
	// 0 when there is none (getOldestRecordTimeInMillis).
	OldestAge time.Duration
	// Put and PutBytes are how many records are stored, and their sizes
	// (UserRecordsPut, UserRecordsDataPut).
	Put, PutBytes uint64
	// Stored and StoredBytes are how many records the sink has stored for
	// these, and their sizes (KinesisRecordsPut, KinesisRecordsDataPut).
	Stored, StoredBytes uint64
	// Failed is how many records have an error as their result, and Expired how
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
	// "other". Those that did not occur are not in it (ErrorsByCode).
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

// addAll adds a value that was measured several times.
func (d *Distribution[T]) addAll(v T, times int) {
	d.add(v)
	d.Count += uint64(times - 1)
	d.Sum += v * T(times-1)
}

// counters are the part of Stats that is not a view of the state.
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

// snapshot returns the figures of the moment, without Errors.
func (c *core) snapshot(now int64) Stats {
	n := &c.stats
	s := Stats{
		Pending: c.buffer.records, PendingBytes: c.buffer.bytes, Waiting: c.buffer.waiting.n, InFlight: c.flight.senders - c.flight.starting,
		Received: n.received, Rejected: n.rejected, Put: n.put, PutBytes: n.putBytes, Failed: n.failed, Expired: n.expired,
		Stored: n.stored, StoredBytes: n.storedBytes,
		Requests: n.requests, Retries: n.retries, Reordered: n.reordered, CallbackPanics: n.panics,
		Buffering: n.buffering, RequestTime: n.requestTime, RetriesPerRecord: n.retried, RecordsPerStored: n.recordsPerSlot,
		StoredPerRequest: n.slotsPerRequest, RecordsPerRequest: n.recordsPerRequest,
	}
	if c.buffer.undecided > 0 {
		s.OldestAge = time.Duration(now - c.oldestBorn())
	}
	return s
}

// setErrors sets Errors and AllErrors.
func (s *Stats) setErrors(counted *[causes]uint64) {
	for i, n := range counted {
		if n > 0 {
			if s.Errors == nil {
				s.Errors = make(map[string]uint64)
			}
			s.Errors[causeNames[i]] = n
			s.AllErrors += n
		}
	}
}
