package producer

import (
	"time"

	"github.com/shardlog/shardlog"
)

// Result says where a record is stored, and how often that was tried. Those of
// failed records have no ShardID and Sequence. Results share memory: what
// Attempts refers to must not be changed.
type Result struct {
	// ShardID and Sequence are where the record is, or the aggregate that it
	// is in.
	ShardID  string
	Sequence shardlog.SequenceNumber
	// SubSequence is the record's index in its aggregate; 0 when it is stored
	// alone.
	SubSequence uint32
	// Duplicate is set when the record was stored already: by an earlier
	// attempt whose answer was lost (see Options.ID), or by another record
	// with its DedupID. ShardID and Sequence are where.
	Duplicate bool
	// Sends is how often the record was sent.
	Sends int
	// Attempts are the sends, oldest first; of more than eight failed ones,
	// the last eight. A stored record's last one has no error.
	Attempts []Attempt
}

// Attempt is one send of a record.
type Attempt struct {
	// Time is when the sink was called; Duration, how long until it answered.
	Time     time.Time
	Duration time.Duration
	// Err is why the attempt failed; nil if it did not.
	Err error
}

// maxFailures is how many failed attempts a Result has.
const maxFailures = 8
