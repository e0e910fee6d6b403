// Package kpl reads and writes the format in which the Kinesis Producer
// Library packs several user records into one stored record: four bytes of
// magic, a protobuf message, and the message's MD5.
//
//	AggregatedRecord { repeated string partition_key_table = 1;
//	                   repeated string explicit_hash_key_table = 2;
//	                   repeated Record records = 3; }
//	Record { required uint64 partition_key_index = 1;
//	         optional uint64 explicit_hash_key_index = 2;
//	         required bytes data = 3; repeated Tag tags = 4; }
//	Tag { required string key = 1; optional string value = 2; }
//
// The format is that of aggregation-format.md in the library's repository.
// There, tags are defined but not used; here they carry the headers of a
// record, and readers that do not know them skip them.
package kpl

import (
	"bytes"
	"crypto/md5" // the format's digest; it finds damage and accidents, not attackers
	"fmt"

	"github.com/shardlog/shardlog"
)

// Magic begins every aggregate.
const Magic = shardlog.AggregateMagic

// Overhead is the length of what surrounds the protobuf message of an aggregate,
// in bytes: the magic and the digest.
const Overhead = len(Magic) + md5.Size

// UserRecord is one of the records in an aggregate.
type UserRecord struct {
	// PartitionKey is what the user gave; the format sets no limit.
	PartitionKey string
	// HashKey is the explicit hash key, unset when there is none.
	HashKey shardlog.HashKey
	// Data is the payload.
	Data []byte
	// Headers are the tags, nil when there are none.
	Headers []shardlog.Header
}

// Hash returns what places the record on a shard: its explicit hash key, or
// the hash of its partition key.
func (r *UserRecord) Hash() shardlog.HashKey {
	if r.HashKey.IsSet() {
		return r.HashKey
	}
	return shardlog.KeyHash(r.PartitionKey)
}

// BeginsAsAggregate reports whether data has the magic, at any length: readers
// that do not check the rest would take it for an aggregate.
func BeginsAsAggregate(data []byte) bool {
	return len(data) >= len(Magic) && string(data[:len(Magic)]) == Magic
}

// HasMagic reports whether data begins as an aggregate does and is long enough
// to be one. That is a cheap test; such data may still be a user's own.
func HasMagic(data []byte) bool { return len(data) > Overhead && string(data[:len(Magic)]) == Magic }

// IsAggregate reports whether data has the magic, more than 20 bytes, and the
// right digest. Its message can still be invalid. A caller that decodes the data
// anyway should use the error of Decode instead, which saves a second digest.
func IsAggregate(data []byte) bool { return HasMagic(data) && digestFits(data) }

func digestFits(data []byte) bool {
	sum := md5.Sum(data[len(Magic) : len(data)-md5.Size])
	return bytes.Equal(sum[:], data[len(data)-md5.Size:])
}

// Cause says why data was not decoded.
type Cause uint8

// The causes. After the first two, KCL silently delivers the data as a plain
// record; after the others, the data is damaged, or was made by a faulty writer.
const (
	NotAggregate Cause = iota // no magic, or no more than 20 bytes: a plain record
	BadDigest                 // the magic, but the digest differs: most likely a plain record
	BadProtobuf               // the digest is right, but the message is invalid
	BadIndex                  // a record refers to an entry outside a table
	BadHashKey                // a record refers to a hash key that is not a number below 2^128
)

var causeNames = [...]string{
	NotAggregate: "not an aggregate", BadDigest: "digest differs", BadProtobuf: "invalid message",
	BadIndex: "index outside its table", BadHashKey: "invalid explicit hash key",
}

// String returns the cause in words.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return fmt.Sprintf("cause %d", uint8(c))
}

// DecodeError says why data was not decoded, and where. It matches
// shardlog.ErrCorrupt when data is an aggregate by its digest.
type DecodeError struct {
	// Cause is the kind of fault.
	Cause Cause
	// Record is the index of the user record with the fault; -1 when it is
	// not in one.
	Record int
	// Reason says more; it may be empty.
	Reason string
}

// Error describes e in one line.
func (e *DecodeError) Error() string {
	s := "aggregate: " + e.Cause.String()
	if e.Record >= 0 {
		s = fmt.Sprintf("aggregate: user record %d: %v", e.Record, e.Cause)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Is makes e match shardlog.ErrCorrupt.
func (e *DecodeError) Is(target error) bool {
	return target == shardlog.ErrCorrupt && e.Cause > BadDigest
}
