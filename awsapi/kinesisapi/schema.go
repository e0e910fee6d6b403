package kinesisapi

import (
	"regexp"
	"strings"
)

// kind is the type of a member in the service model.
type kind uint8

const (
	kindString kind = iota
	kindInteger
	kindLong
	kindBoolean
	kindBlob
	kindTimestamp
	kindList
	kindMap
	kindStructure
)

// shape is a type of the service model with its constraints.
type shape struct {
	kind     kind
	min, max int64 // of a length, of a value or of a number of members
	hasMin   bool
	hasMax   bool
	pattern  *regexp.Regexp
	text     string // of the pattern, as the model has it
	enum     []string
	fields   []field // of a structure
	elem     *shape  // of a list or the values of a map
	key      *shape  // of a map
	member   string  // how a structure prints inside of a list
}

// field is a member of a structure.
type field struct {
	name     string
	label    string // as errors call it
	shape    *shape
	required bool
}

func (s *shape) field(name []byte) *field {
	for i := range s.fields {
		if s.fields[i].name == string(name) {
			return &s.fields[i]
		}
	}
	return nil
}

func req(name string, s *shape) field {
	return field{name: name, label: lowerFirst(name), shape: s, required: true}
}

func opt(name string, s *shape) field { return field{name: name, label: lowerFirst(name), shape: s} }

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func text(lo, hi int64, pattern string) *shape {
	s := &shape{kind: kindString, min: lo, max: hi, hasMin: lo >= 0, hasMax: hi >= 0, text: pattern}
	if pattern != "" {
		s.pattern = regexp.MustCompile("^(?:" + strings.TrimPrefix(pattern, "^") + ")$")
	}
	return s
}

func enum(values ...string) *shape { return &shape{kind: kindString, enum: values} }

func integer(lo, hi int64) *shape {
	return &shape{kind: kindInteger, min: lo, max: hi, hasMin: lo >= 0, hasMax: hi >= 0}
}

func structure(fields ...field) *shape { return &shape{kind: kindStructure, fields: fields} }

func list(elem *shape, lo, hi int64) *shape {
	return &shape{kind: kindList, elem: elem, min: lo, max: hi, hasMin: lo >= 0, hasMax: hi >= 0}
}

// Shapes of the service model. The bounds are the model's.
var (
	boolean   = &shape{kind: kindBoolean}
	timestamp = &shape{kind: kindTimestamp}

	shapeStreamName  = text(1, 128, `[a-zA-Z0-9_.-]+`)
	shapeStreamARN   = text(1, 2048, `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`)
	shapeStreamID    = text(1, 24, `[a-z0-9]{20}-[a-z0-9]{3}`)
	shapeResourceARN = text(1, 2048, `arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+`)
	shapeConsumerARN = text(1, 2048, `^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+`)
	shapeName        = text(1, 128, `[a-zA-Z0-9_.-]+`) // of a shard or a consumer
	shapeHashKey     = text(-1, -1, `0|([1-9]\d{0,38})`)
	shapeSequence    = text(-1, -1, `0|([1-9]\d{0,128})`)
	shapeKey         = text(1, 256, "")
	shapeIterator    = text(1, 512, "")
	shapeToken       = text(1, 1<<20, "")
	shapeTagKey      = text(1, 128, "")
	shapeKeyID       = text(1, 2048, "")
	shapePolicy      = text(-1, -1, "")
	shapeData        = &shape{kind: kindBlob, max: 10 << 20, hasMin: true, hasMax: true}
	shapeTags        = &shape{kind: kindMap, key: shapeTagKey, elem: text(0, 256, ""), min: 1, max: 200, hasMin: true, hasMax: true}
	shapeTagKeys     = list(shapeTagKey, 1, 50)
	shapeEncryption  = enum("NONE", "KMS")
	shapeMetrics     = list(enum("IncomingBytes", "IncomingRecords", "OutgoingBytes", "OutgoingRecords", "WriteProvisionedThroughputExceeded",
		"ReadProvisionedThroughputExceeded", "IteratorAgeMilliseconds", "ALL"), 1, 7)
	shapeIteratorType = enum("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")
	shapeMode         = structure(req("StreamMode", enum("PROVISIONED", "ON_DEMAND")))
	shapeWarm         = integer(0, -1)
	shapeRecordKiB    = integer(1024, 10240)
	shapeHours        = integer(-1, -1)
	shapeLimit        = integer(1, 10000)
	shapeEntry        = &shape{kind: kindStructure, member: "com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310",
		fields: []field{req("Data", shapeData), opt("ExplicitHashKey", shapeHashKey), req("PartitionKey", shapeKey)}}
	shapeFilter = structure(req("Type", enum("AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST", "AT_TIMESTAMP", "FROM_TIMESTAMP")),
		opt("ShardId", shapeName), opt("Timestamp", timestamp))
	shapePosition = structure(req("Type", shapeIteratorType), opt("SequenceNumber", shapeSequence), opt("Timestamp", timestamp))

	fieldName = opt("StreamName", shapeStreamName)
	fieldARN  = opt("StreamARN", shapeStreamARN)
	fieldID   = opt("StreamId", shapeStreamID)
)
