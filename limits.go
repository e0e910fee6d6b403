package shardlog

import (
	"fmt"
	"unicode/utf8"
)

// Limits of the log and of its clients. Those that Kinesis has are the same
// there; the source is named with each.
const (
	// MaxPartitionKeyLength is the longest partition key, in Unicode code
	// points (Kinesis API reference, PutRecord).
	MaxPartitionKeyLength = 256
	// MaxRecordSize is the largest value that a stream's own record limit may
	// take, in bytes of data, partition key and headers together (Kinesis
	// API reference, UpdateMaxRecordSize: 10,240 KiB).
	MaxRecordSize = 10 << 20
	// DefaultRecordSize is the record limit of a stream that sets none, in
	// bytes (Kinesis: 1,024 KiB).
	DefaultRecordSize = 1 << 20
	// MaxHeaders is the largest number of headers on one record. Kinesis has
	// no headers; inside an aggregated record they travel as tags.
	MaxHeaders = 256
	// MaxDedupIDLength is the longest Record.DedupID, in bytes. Kinesis has no
	// such IDs. The bound keeps a stream's index of them small.
	MaxDedupIDLength = 256
	// MaxProducerIDLength is the longest identity of a producer, in bytes; see
	// RequestSink. Kinesis has no identities.
	MaxProducerIDLength = 256
	// MaxRequestRecords is the largest number of records in one request to
	// Kinesis (API reference, PutRecords). A Stream of this module takes any
	// number in a call; Producer's requests have this size by default.
	MaxRequestRecords = 500
	// MaxRequestBytes is the largest request to Kinesis, in bytes of data and
	// partition keys (API reference, PutRecords: 10 MiB).
	MaxRequestBytes = 10 << 20
	// MaxPageRecords is the largest number of records in a page (Kinesis API
	// reference, GetRecords: Limit).
	MaxPageRecords = 10_000
	// MaxPageBytes is the largest page, in bytes as Record.Size counts them,
	// unless a single record is larger (Kinesis API reference, GetRecords).
	MaxPageBytes = 10 << 20
)

// AggregateMagic is how the data of an aggregated record begins (aggregation
// format of the Kinesis Producer Library). A user's own data may begin so, too.
const AggregateMagic = "\xf3\x89\x9a\xc2"

// ShardID returns the ID of the n-th shard of a stream, counted from 0 over all
// shards that the stream ever had: "shardId-" and at least twelve digits, as in
// Kinesis.
func ShardID(n uint32) string {
	const zero = "shardId-000000000000" // twelve digits hold any uint32
	var b [len(zero)]byte
	copy(b[:], zero)
	for i := len(b) - 1; n > 0; i-- {
		b[i] += byte(n % 10)
		n /= 10
	}
	return string(b[:])
}

// Validate checks what every log demands of a record that is written: a
// partition key as ValidatePartitionKey demands it, at most MaxHeaders headers,
// a DedupID as ValidateDedupID demands it, and a Size of at most maxSize bytes.
// It returns nil or an *InvalidError, which names the first field that breaks
// its limit. It does not block, and it only reads r.
//
// A log may demand more: for example, that the record has no DedupID.
func (r *Record) Validate(maxSize int) error {
	if err := ValidatePartitionKey(r.PartitionKey); err != nil {
		return err
	}
	if len(r.Headers) > MaxHeaders {
		return &InvalidError{Field: "Headers", Value: len(r.Headers), Limit: fmt.Sprintf("at most %d", MaxHeaders)}
	}
	if n := r.Size(); n > maxSize {
		return &InvalidError{Field: "Data", Value: fmt.Sprintf("of %d bytes with key and headers", n), Limit: fmt.Sprintf("at most %d bytes", maxSize)}
	}
	return ValidateDedupID(r.DedupID)
}

// ValidatePartitionKey returns nil if key is 1 to MaxPartitionKeyLength Unicode
// code points of valid UTF-8, and an *InvalidError if not.
func ValidatePartitionKey(key string) error {
	switch {
	case key == "":
		return &InvalidError{Field: "PartitionKey", Value: key, Limit: "at least 1 character"}
	case !utf8.ValidString(key):
		return &InvalidError{Field: "PartitionKey", Value: key, Limit: "valid UTF-8"}
	// Counting is slow, and a key with few bytes has few code points.
	case len(key) > MaxPartitionKeyLength && utf8.RuneCountInString(key) > MaxPartitionKeyLength:
		return &InvalidError{Field: "PartitionKey", Value: fmt.Sprintf("of %d characters", utf8.RuneCountInString(key)),
			Limit: fmt.Sprintf("at most %d characters", MaxPartitionKeyLength)}
	}
	return nil
}

// ValidateDedupID returns nil if id is "" or up to MaxDedupIDLength bytes of
// valid UTF-8, and an *InvalidError if not.
func ValidateDedupID(id string) error {
	return validateID("DedupID", id, MaxDedupIDLength)
}

// ValidateProducerID returns nil if id is 1 to MaxProducerIDLength bytes of
// valid UTF-8, and an *InvalidError if not.
func ValidateProducerID(id string) error {
	if id == "" {
		return &InvalidError{Field: "Producer", Value: id, Limit: "at least 1 byte"}
	}
	return validateID("Producer", id, MaxProducerIDLength)
}

func validateID(field, id string, most int) error {
	switch {
	case len(id) > most:
		return &InvalidError{Field: field, Value: fmt.Sprintf("of %d bytes", len(id)), Limit: fmt.Sprintf("at most %d bytes", most)}
	case !utf8.ValidString(id):
		return &InvalidError{Field: field, Value: id, Limit: "valid UTF-8"}
	}
	return nil
}

// Validate returns nil if the bounds of r are in their ranges, and an
// *InvalidError that names the one that is not. Whether the shard and the
// position exist is for the Source to find out.
func (r *ReadRequest) Validate() error {
	switch {
	case r.MaxRecords < 0 || r.MaxRecords > MaxPageRecords:
		return &InvalidError{Field: "MaxRecords", Value: r.MaxRecords, Limit: fmt.Sprintf("0 to %d", MaxPageRecords)}
	case r.MaxBytes < 0 || r.MaxBytes > MaxPageBytes:
		return &InvalidError{Field: "MaxBytes", Value: r.MaxBytes, Limit: fmt.Sprintf("0 to %d", MaxPageBytes)}
	case r.Wait < 0:
		return &InvalidError{Field: "Wait", Value: r.Wait, Limit: "0 or more"}
	}
	return nil
}
