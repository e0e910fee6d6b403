package shardlog

import (
	"cmp"
	"math/bits"
	"time"
)

// SequenceNumber is a record's place in its shard: a decimal number, as in
// Kinesis. This module's own log composes its numbers as Kinesis composes those
// that it calls version 2: 188 bits that print as 56 decimal digits and hold the
// second in which the shard was created, the shard's index, a counter, and the
// second in which the record arrived. Another log may number its records
// differently; of its numbers only text and order have a meaning, and Created,
// Shard, Counter and Arrival report that they are not known.
//
// Numbers are comparable with == and ordered by Compare. They grow along a
// shard, and along its lineage, because a child shard's creation is at least a
// second later than its parents'. The zero value is unset, prints as "", and is
// below every number; it differs from the number 0.
type SequenceNumber struct {
	// The number plus one, in 192 bits from the top, so that the zero value is
	// no number. In hexadecimal digits from the top, a number of version 2 is
	// 2, creation (9), index mod 16 (1), counter (16), 00, arrival (9), index
	// (8), 2, so that adding one changes no digit but the last.
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
		lo:  a<<36 | uint64(shard)<<4 | (2 + 1),
	}
}

// maxDigits is the length of the largest number in decimal digits, which is
// that of version 2. 10^56 is below 2^188, so adding one does not overflow.
const maxDigits = 56

// ParseSequenceNumber reads the decimal form: 1 to 56 digits without sign and
// leading zeros. It takes any such number, whether this module's log could have
// given it to a record or not. The error is an *InvalidError.
func ParseSequenceNumber(s string) (SequenceNumber, error) {
	w, ok := parseDecimal(s)
	if !ok || len(s) > maxDigits {
		return SequenceNumber{}, &InvalidError{Field: "SequenceNumber", Value: s, Limit: "a decimal number of up to 56 digits without leading zeros"}
	}
	var carry uint64
	w[2], carry = bits.Add64(w[2], 1, 0)
	w[1], carry = bits.Add64(w[1], 0, carry)
	return SequenceNumber{hi: w[0] + carry, mid: w[1], lo: w[2]}, nil
}

// number returns n without the one that is added to it; n is not zero.
func (n SequenceNumber) number() [3]uint64 {
	lo, borrow := bits.Sub64(n.lo, 1, 0)
	mid, borrow := bits.Sub64(n.mid, 0, borrow)
	return [3]uint64{n.hi - borrow, mid, lo}
}

// composed reports whether NewSequenceNumber can have made n: the first and the
// last digit, the two zeros, the counter's top bit, and the index that is there
// twice are as it makes them.
func (n SequenceNumber) composed() bool {
	return n.hi>>56 == 2 && n.lo&15 == 2+1 && n.mid&0xff00 == 0 && n.hi&0x8000 == 0 && (n.hi>>16^n.lo>>4)&15 == 0
}

// IsSet reports whether n was set; it is false for the zero value only.
func (n SequenceNumber) IsSet() bool { return n != SequenceNumber{} }

// Compare returns -1, 0 or 1 as n is below, equal to or above o.
func (n SequenceNumber) Compare(o SequenceNumber) int {
	return cmp.Or(cmp.Compare(n.hi, o.hi), cmp.Compare(n.mid, o.mid), cmp.Compare(n.lo, o.lo))
}

// Counter returns the part of n that distinguishes the records of one shard. It
// and the other parts are known, as ok reports, if n is set and NewSequenceNumber
// can have made it.
func (n SequenceNumber) Counter() (counter uint64, ok bool) {
	if !n.composed() {
		return 0, false
	}
	return n.hi<<48&MaxCounter | n.mid>>16, true
}

// Shard returns the index of the shard, the number in its ID; see Counter for
// ok.
func (n SequenceNumber) Shard() (index uint32, ok bool) {
	if !n.composed() {
		return 0, false
	}
	return uint32(n.lo >> 4), true
}

// Created returns when the shard was created, in whole seconds; see Counter for
// ok.
func (n SequenceNumber) Created() (t time.Time, ok bool) {
	if !n.composed() {
		return time.Time{}, false
	}
	return time.Unix(int64(n.hi>>20&maxSeconds), 0), true
}

// Arrival returns when the record arrived, in whole seconds; see Counter for ok.
func (n SequenceNumber) Arrival() (t time.Time, ok bool) {
	if !n.composed() {
		return time.Time{}, false
	}
	return time.Unix(int64(n.mid&0xff<<28|n.lo>>36), 0), true
}

// String returns the decimal form, or "" when n is unset.
func (n SequenceNumber) String() string {
	if !n.IsSet() {
		return ""
	}
	return string(appendDecimal(make([]byte, 0, maxDigits), n.number()))
}

// AppendText appends the decimal form to b; it never fails.
func (n SequenceNumber) AppendText(b []byte) ([]byte, error) {
	if !n.IsSet() {
		return b, nil
	}
	return appendDecimal(b, n.number()), nil
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
