package shardlog

import (
	"fmt"
	"time"
)

// PositionKind is the way in which a Position names a place in a shard.
type PositionKind uint8

// The kinds of Position.
const (
	KindTrimHorizon PositionKind = iota // before the oldest record still there
	KindLatest                          // after the newest record
	KindAtTime                          // before the first record that did not arrive before a time
	KindAt                              // before a record
	KindAfter                           // after a record, or after a user record inside an aggregated one
)

// WholeRecord as the sub-sequence of a position means that nothing inside the
// record is left.
const WholeRecord int64 = -1

// Position is a place between two records of one shard. It is comparable with
// ==, except that positions at a time should be compared by their parts. The
// zero value is TrimHorizon.
type Position struct {
	kind PositionKind
	seq  SequenceNumber
	sub  int64
	at   time.Time
}

// TrimHorizon is before the oldest record that is still retained.
func TrimHorizon() Position { return Position{} }

// Latest is after the newest record at the moment of reading. The page that
// was read from it has a Next that is fixed.
func Latest() Position { return Position{kind: KindLatest} }

// AtTime is before the first record whose arrival is not before t. A time
// before the trim horizon means the horizon; one in the future means the
// records that arrive from then on, and until then there are none.
func AtTime(t time.Time) Position { return Position{kind: KindAtTime, at: t} }

// At is before the record with this number, or before the first after it when
// no record has it.
func At(seq SequenceNumber) Position { return Position{kind: KindAt, seq: seq} }

// After is just after the record with this number.
func After(seq SequenceNumber) Position {
	return Position{kind: KindAfter, seq: seq, sub: WholeRecord}
}

// AfterSub is just after the user record with index sub inside the aggregated
// record seq. A log holds aggregated records whole: reading from here begins
// with record seq if it is an aggregate, and it is the de-aggregating reader
// that drops the user records up to sub. If it is not, reading begins after it.
func AfterSub(seq SequenceNumber, sub uint32) Position {
	return Position{kind: KindAfter, seq: seq, sub: int64(sub)}
}

// Kind returns the way in which p names its place.
func (p Position) Kind() PositionKind { return p.kind }

// Sequence returns the number of a position of kind KindAt or KindAfter.
func (p Position) Sequence() SequenceNumber { return p.seq }

// SubSequence returns the index of the last user record before a position of
// kind KindAfter, or WholeRecord.
func (p Position) SubSequence() int64 { return p.sub }

// Time returns the time of a position of kind KindAtTime.
func (p Position) Time() time.Time { return p.at }

// String describes p for people and logs; it is not a format to be read back.
func (p Position) String() string {
	switch p.kind {
	case KindTrimHorizon:
		return "trim horizon"
	case KindLatest:
		return "latest"
	case KindAtTime:
		return "at " + p.at.UTC().Format(time.RFC3339Nano)
	case KindAt:
		return "at " + p.seq.String()
	}
	if p.sub == WholeRecord {
		return "after " + p.seq.String()
	}
	return fmt.Sprintf("after %s.%d", p.seq, p.sub)
}
