package shardlog

import (
	"cmp"
	"time"
)

// SequenceNumber is a record's place in its shard, in the form that Kinesis
// uses: 188 bits that print as 56 decimal digits and hold the second in which
// the shard was created, the shard's index, a counter, and the second in which
// the record arrived.
//
// Numbers are comparable with == and ordered by Compare. They grow along a
// shard, and along its lineage, because a child shard's creation is at least a
// second later than its parents'. The zero value is unset and prints as "".
type SequenceNumber struct {
	// The 188 bits as one number, in hexadecimal digits from the top: 2,
	// creation (9), index mod 16 (1), counter (16), 00, arrival (9), index
	// (8), 2. The top four bits of hi are zero.
	hi, mid, lo uint64
}

// MaxCounter is the largest counter of a sequence number; numbers with it
// close a shard in Kinesis and are never given to a record.
const MaxCounter = 1<<63 - 1

// maxSeconds bounds the two 36-bit times of a sequence number.
const maxSeconds = 1<<36 - 1

// NewSequenceNumber composes a number. Created and arrival are seconds since
// the Unix epoch; what exceeds 36 bits of them, or 63 of counter, is cut off.
func NewSequenceNumber(created int64, shard uint32, counter uint64, arrival int64) SequenceNumber {
	c, a := uint64(created)&maxSeconds, uint64(arrival)&maxSeconds
	counter &= MaxCounter
	return SequenceNumber{
		hi:  2<<56 | c<<20 | uint64(shard&15)<<16 | counter>>48,
		mid: counter<<16 | a>>28,
		lo:  a<<36 | uint64(shard)<<4 | 2,
	}
}

// ParseSequenceNumber reads the decimal form. The error is an *InvalidError.
func ParseSequenceNumber(s string) (SequenceNumber, error) {
	w, ok := parseDecimal(s)
	n := SequenceNumber{hi: w[0], mid: w[1], lo: w[2]}
	if !ok || n != NewSequenceNumber(n.created(), n.Shard(), n.Counter(), n.arrival()) {
		return SequenceNumber{}, &InvalidError{Field: "SequenceNumber", Value: s, Limit: "56 decimal digits of a Kinesis sequence number, version 2"}
	}
	return n, nil
}

// IsZero tells whether n is unset.
func (n SequenceNumber) IsZero() bool { return n == SequenceNumber{} }

// Compare returns -1, 0 or 1 as n is below, equal to or above o.
func (n SequenceNumber) Compare(o SequenceNumber) int {
	return cmp.Or(cmp.Compare(n.hi, o.hi), cmp.Compare(n.mid, o.mid), cmp.Compare(n.lo, o.lo))
}

// Counter returns the part of n that tells the records of one shard apart.
func (n SequenceNumber) Counter() uint64 { return n.hi<<48&MaxCounter | n.mid>>16 }

// Shard returns the index of the shard, the number in its ID.
func (n SequenceNumber) Shard() uint32 { return uint32(n.lo >> 4) }

// Created returns when the shard was created, in whole seconds.
func (n SequenceNumber) Created() time.Time { return time.Unix(n.created(), 0) }

// Arrival returns when the record arrived, in whole seconds.
func (n SequenceNumber) Arrival() time.Time { return time.Unix(n.arrival(), 0) }

func (n SequenceNumber) created() int64 { return int64(n.hi >> 20 & maxSeconds) }

func (n SequenceNumber) arrival() int64 { return int64(n.mid&0xff<<28 | n.lo>>36) }

// String returns the decimal form, or "" when n is unset.
func (n SequenceNumber) String() string {
	if n.IsZero() {
		return ""
	}
	return string(appendDecimal(make([]byte, 0, 57), [3]uint64{n.hi, n.mid, n.lo}))
}

// AppendText appends the decimal form to b; it never fails.
func (n SequenceNumber) AppendText(b []byte) ([]byte, error) {
	if n.IsZero() {
		return b, nil
	}
	return appendDecimal(b, [3]uint64{n.hi, n.mid, n.lo}), nil
}

// MarshalText returns the decimal form; it never fails.
func (n SequenceNumber) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (n *SequenceNumber) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*n = SequenceNumber{}
		return nil
	}
	v, err := ParseSequenceNumber(string(text))
	if err == nil {
		*n = v
	}
	return err
}
