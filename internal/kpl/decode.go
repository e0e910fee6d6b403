package kpl

import (
	"crypto/md5"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/shardlog/shardlog"
)

// Tags of the message: the field's number and its wire type.
const (
	tagKey     = 1<<3 | byte(protowire.BytesType)
	tagHashKey = 2<<3 | byte(protowire.BytesType)
	tagRecord  = 3<<3 | byte(protowire.BytesType)

	tagKeyIndex     = 1<<3 | byte(protowire.VarintType)
	tagHashKeyIndex = 2<<3 | byte(protowire.VarintType)
	tagData         = 3<<3 | byte(protowire.BytesType)
	tagTag          = 4<<3 | byte(protowire.BytesType)

	tagTagKey   = 1<<3 | byte(protowire.BytesType)
	tagTagValue = 2<<3 | byte(protowire.BytesType)
)

// Decode appends the user records of an aggregate to dst, in order. If it fails,
// with a *DecodeError, it appends nothing.
//
// The Data of the records are parts of data, with no capacity beyond their
// length; the strings are copies. The caller must not change data while the
// records are in use.
func Decode(data []byte, dst []UserRecord) ([]UserRecord, error) {
	msg, err := message(data)
	if err != nil {
		return dst, err
	}
	return decode(msg, dst)
}

func decode(msg []byte, dst []UserRecord) ([]UserRecord, error) {
	var a Aggregate
	if err := a.open(msg); err != nil {
		return dst, err
	}
	n := len(dst)
	if free := cap(dst) - n; free < a.n {
		dst = append(make([]UserRecord, 0, n+a.n), dst...)
	}
	out := dst[:n+a.n]
	for i := range a.n {
		if err := a.record(i, &out[n+i]); err != nil {
			clear(out[n : n+i+1])
			return dst[:n:n], err
		}
	}
	return out, nil
}

// Aggregate is an aggregate that Parse has checked as a whole, and whose user
// records are read in portions: one of 10 MiB can hold millions of them. It is
// not safe for concurrent use.
type Aggregate struct {
	keys     []string
	hashKeys []shardlog.HashKey // unset where the text is no hash key
	rest     []byte             // of the message, from the next record on
	n, next  int
}

// Parse checks the whole of data, as Decode does. The caller must not change
// data while the Aggregate or its records are in use.
func Parse(data []byte) (*Aggregate, error) {
	msg, err := message(data)
	if err != nil {
		return nil, err
	}
	a := new(Aggregate)
	if err := a.open(msg); err != nil {
		return nil, err
	}
	check, scratch := *a, UserRecord{}
	for i := range a.n {
		if err := check.record(i, &scratch); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Len returns how many user records the aggregate has.
func (a *Aggregate) Len() int { return a.n }

// Next appends up to n of the records that it has not returned yet. When it
// appends nothing, none are left. Their Data are parts of the data, as with
// Decode.
func (a *Aggregate) Next(dst []UserRecord, n int) []UserRecord {
	for ; n > 0 && a.next < a.n; n-- {
		var r UserRecord
		if a.record(a.next, &r) != nil {
			return dst // Parse has checked it, so the data was changed since
		}
		dst = append(dst, r)
		a.next++
	}
	return dst
}

// message returns the protobuf message of data.
func message(data []byte) ([]byte, error) {
	if !HasMagic(data) {
		return nil, &DecodeError{Cause: NotAggregate, Record: -1}
	}
	if !digestFits(data) {
		return nil, &DecodeError{Cause: BadDigest, Record: -1}
	}
	return data[len(Magic) : len(data)-md5.Size], nil
}

// open reads the tables of a message, which may be anywhere in it, and counts
// its records.
func (a *Aggregate) open(msg []byte) error {
	*a = Aggregate{rest: msg}
	keys, keyBytes, hashKeys := 0, 0, 0
	end := 0 // of the last entry of a table
	for b := msg; len(b) > 0; {
		f, n := consume(b)
		if n < 0 {
			return invalid(-1, n)
		}
		b = b[n:]
		switch f.tag {
		case tagKey:
			keys++
			keyBytes += len(f.bytes)
			end = len(msg) - len(b)
		case tagHashKey:
			hashKeys++
			end = len(msg) - len(b)
		case tagRecord:
			a.n++
		}
	}
	// All keys are one string, for one allocation.
	var all strings.Builder
	all.Grow(keyBytes)
	a.keys = make([]string, 0, keys)
	if hashKeys > 0 {
		a.hashKeys = make([]shardlog.HashKey, 0, hashKeys)
	}
	for b := msg[:end]; len(b) > 0; {
		f, n := consume(b)
		b = b[n:]
		switch f.tag {
		case tagKey:
			from := all.Len()
			all.Write(f.bytes)
			a.keys = append(a.keys, all.String()[from:])
		case tagHashKey:
			a.hashKeys = append(a.hashKeys, hashKey(f.bytes))
		}
	}
	return nil
}

// hashKey reads a decimal number. Leading zeros are allowed, because KPL does
// not remove them.
func hashKey(text []byte) shardlog.HashKey {
	s := strings.TrimLeft(string(text), "0")
	if s == "" && len(text) > 0 {
		s = "0"
	}
	k, _ := shardlog.ParseHashKey(s)
	return k
}

// record reads the next record of the message, which is number i, into r.
func (a *Aggregate) record(i int, r *UserRecord) error {
	for {
		f, n := consume(a.rest)
		if n < 0 {
			return invalid(i, n)
		}
		a.rest = a.rest[n:]
		if f.tag == tagRecord {
			return a.userRecord(i, f.bytes, r)
		}
		if len(a.rest) == 0 {
			return invalid(i, 0)
		}
	}
}

// userRecord reads the message of one record. As in every protobuf message,
// fields may be in any order, the last one of a number counts, and unknown ones
// are skipped.
func (a *Aggregate) userRecord(i int, b []byte, r *UserRecord) error {
	*r = UserRecord{}
	var key, hash uint64
	var hasKey, hasHash, hasData bool
	for len(b) > 0 {
		f, n := consume(b)
		if n < 0 {
			return invalid(i, n)
		}
		b = b[n:]
		switch f.tag {
		case tagKeyIndex:
			key, hasKey = f.number, true
		case tagHashKeyIndex:
			hash, hasHash = f.number, true
		case tagData:
			r.Data, hasData = f.bytes, true
		case tagTag:
			h, err := header(i, f.bytes)
			if err != nil {
				return err
			}
			r.Headers = append(r.Headers, h)
		}
	}
	switch {
	case !hasKey:
		return &DecodeError{Cause: BadProtobuf, Record: i, Reason: "no partition_key_index"}
	case !hasData:
		return &DecodeError{Cause: BadProtobuf, Record: i, Reason: "no data"}
	case key >= uint64(len(a.keys)):
		return &DecodeError{Cause: BadIndex, Record: i, Reason: fmt.Sprintf("partition_key_index %d of %d", key, len(a.keys))}
	}
	r.PartitionKey = a.keys[key]
	if !hasHash {
		return nil
	}
	if hash >= uint64(len(a.hashKeys)) {
		return &DecodeError{Cause: BadIndex, Record: i, Reason: fmt.Sprintf("explicit_hash_key_index %d of %d", hash, len(a.hashKeys))}
	}
	r.HashKey = a.hashKeys[hash]
	if !r.HashKey.IsSet() {
		return &DecodeError{Cause: BadHashKey, Record: i}
	}
	return nil
}

func header(i int, b []byte) (h shardlog.Header, err error) {
	hasKey := false
	for len(b) > 0 {
		f, n := consume(b)
		if n < 0 {
			return h, invalid(i, n)
		}
		b = b[n:]
		switch f.tag {
		case tagTagKey:
			h.Key, hasKey = string(f.bytes), true
		case tagTagValue:
			h.Value = string(f.bytes)
		}
	}
	if !hasKey {
		return h, &DecodeError{Cause: BadProtobuf, Record: i, Reason: "a tag without key"}
	}
	return h, nil
}

// field is one field of a message. Tag is 0 for fields that the format does not
// define.
type field struct {
	tag    byte
	bytes  []byte // of wire type 2, with no capacity beyond its length
	number uint64 // of wire type 0
}

// consume reads one field from b, which is not empty; n is its length, or one
// of protowire's negative codes.
func consume(b []byte) (f field, n int) {
	// All known fields have a tag of one byte, most lengths have one or two.
	tag := b[0]
	if tag >= 0x80 || tag>>3 == 0 {
		return unknown(b)
	}
	switch protowire.Type(tag & 7) {
	case protowire.BytesType:
		var size uint64
		m := 1
		if len(b) > 1 && b[1] < 0x80 {
			size = uint64(b[1])
		} else if size, m = protowire.ConsumeVarint(b[1:]); m < 0 {
			return field{}, m
		}
		m++
		if size > uint64(len(b)-m) {
			return field{}, truncated
		}
		end := m + int(size)
		return field{tag: tag, bytes: b[m:end:end]}, end
	case protowire.VarintType:
		v, m := protowire.ConsumeVarint(b[1:])
		if m < 0 {
			return field{}, m
		}
		return field{tag: tag, number: v}, 1 + m
	}
	return unknown(b)
}

// truncated is protowire's code for a field that ends too early.
var truncated = func() int { _, n := protowire.ConsumeVarint(nil); return n }()

func unknown(b []byte) (field, int) {
	_, _, n := protowire.ConsumeField(b)
	return field{}, n
}

func invalid(i, code int) error {
	e := &DecodeError{Cause: BadProtobuf, Record: i}
	if err := protowire.ParseError(code); err != nil {
		e.Reason = err.Error()
	}
	return e
}
