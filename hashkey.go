package shardlog

import (
	"crypto/md5" // the hash that Kinesis routes by; not used for security
	"encoding/binary"
	"math/bits"
	"strings"
	"unsafe"
)

// HashKey is an unsigned 128-bit number that places a record on a shard. It is
// comparable with ==. Its zero value is unset, which differs from the key 0.
type HashKey struct {
	hi, lo uint64
	set    bool
}

// MaxHashKey is the largest hash key, 2^128-1.
var MaxHashKey = NewHashKey(^uint64(0), ^uint64(0))

// NewHashKey returns the hash key hi*2^64 + lo.
func NewHashKey(hi, lo uint64) HashKey { return HashKey{hi: hi, lo: lo, set: true} }

// KeyHash returns the MD5 of a partition key as a big-endian number, which is
// how Kinesis finds the key's shard.
func KeyHash(partitionKey string) HashKey {
	// The string is only read; converting it would allocate for long keys.
	sum := md5.Sum(unsafe.Slice(unsafe.StringData(partitionKey), len(partitionKey)))
	return NewHashKey(binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:]))
}

// ParseHashKey reads a decimal number from 0 to 2^128-1 without sign or
// leading zeros, as Kinesis writes hash keys. The error is an *InvalidError.
func ParseHashKey(s string) (HashKey, error) {
	bad := func() (HashKey, error) {
		return HashKey{}, &InvalidError{Field: "HashKey", Value: s, Limit: "a decimal number from 0 to 2^128-1 without leading zeros"}
	}
	if s == "" || len(s) > 39 || (len(s) > 1 && s[0] == '0') {
		return bad()
	}
	var hi, lo uint64
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return bad()
		}
		// hi:lo = hi:lo*10 + d, refused when it leaves 128 bits.
		h1, l1 := bits.Mul64(lo, 10)
		h2, l2 := bits.Mul64(hi, 10)
		var c, c2 uint64
		lo, c = bits.Add64(l1, uint64(d), 0)
		hi, c2 = bits.Add64(l2, h1, c)
		if h2 != 0 || c2 != 0 {
			return bad()
		}
	}
	return NewHashKey(hi, lo), nil
}

// IsSet reports whether k was set; it is false for the zero value only.
func (k HashKey) IsSet() bool { return k.set }

// Words returns k as hi*2^64 + lo.
func (k HashKey) Words() (hi, lo uint64) { return k.hi, k.lo }

// Compare returns -1, 0 or 1. An unset key is below every other.
func (k HashKey) Compare(o HashKey) int {
	switch {
	case k.set != o.set:
		if o.set {
			return -1
		}
		return 1
	case k.hi != o.hi:
		if k.hi < o.hi {
			return -1
		}
		return 1
	case k.lo < o.lo:
		return -1
	case k.lo > o.lo:
		return 1
	}
	return 0
}

// Next returns k+1; ok is false when k is the largest key or unset.
func (k HashKey) Next() (next HashKey, ok bool) {
	if !k.set || k == MaxHashKey {
		return HashKey{}, false
	}
	lo, c := bits.Add64(k.lo, 1, 0)
	return NewHashKey(k.hi+c, lo), true
}

// Prev returns k-1; ok is false when k is 0 or unset.
func (k HashKey) Prev() (prev HashKey, ok bool) {
	if !k.set || (k.hi == 0 && k.lo == 0) {
		return HashKey{}, false
	}
	lo, b := bits.Sub64(k.lo, 1, 0)
	return NewHashKey(k.hi-b, lo), true
}

// String returns the decimal form, or "" when k is unset.
func (k HashKey) String() string {
	if !k.set {
		return ""
	}
	return string(appendDecimal(nil, [3]uint64{0, k.hi, k.lo}))
}

// MarshalText returns the decimal form; it never fails.
func (k HashKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *HashKey) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*k = HashKey{}
		return nil
	}
	v, err := ParseHashKey(string(text))
	if err == nil {
		*k = v
	}
	return err
}

// appendDecimal appends the decimal digits of a 192-bit number, most
// significant word first.
func appendDecimal(dst []byte, w [3]uint64) []byte {
	const chunk = 1e19 // the largest power of ten in 64 bits
	var parts [4]uint64
	n := 0
	for {
		var rem uint64
		for i := range w {
			w[i], rem = bits.Div64(rem, w[i], chunk)
		}
		parts[n] = rem
		n++
		if w == ([3]uint64{}) {
			break
		}
	}
	var digits [20]byte
	for i := n - 1; i >= 0; i-- {
		p, v := len(digits), parts[i]
		for v > 0 || (p == len(digits) && i == n-1) {
			p--
			digits[p] = byte('0' + v%10)
			v /= 10
		}
		if i < n-1 {
			for len(digits)-p < 19 {
				p--
				digits[p] = '0'
			}
		}
		dst = append(dst, digits[p:]...)
	}
	return dst
}

// parseDecimal reads at most 192 bits; ok is false for anything but digits,
// for leading zeros and for larger numbers.
func parseDecimal(s string) (w [3]uint64, ok bool) {
	if s == "" || len(s) > 58 || (s[0] == '0' && s != "0") || strings.Trim(s, "0123456789") != "" {
		return w, false
	}
	for i := range len(s) {
		carry := uint64(s[i] - '0')
		for j := 2; j >= 0; j-- {
			hi, lo := bits.Mul64(w[j], 10)
			var c uint64
			w[j], c = bits.Add64(lo, carry, 0)
			carry = hi + c
		}
		if carry != 0 {
			return w, false
		}
	}
	return w, true
}
