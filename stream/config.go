package stream

import (
	"errors"
	"fmt"
	"maps"
	"time"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Compression of a stream's blocks. A block that does not get smaller is
// stored as it is.
type Compression uint8

// The compressions.
const (
	NoCompression Compression = iota
	S2                        // fast; about 4 times smaller on text
	Zstd                      // slower; about 6 times smaller on text
)

// String returns "none", "s2" or "zstd".
func (c Compression) String() string {
	if c > Zstd {
		return fmt.Sprintf("Compression(%d)", uint8(c))
	}
	return [...]string{"none", "s2", "zstd"}[c]
}

// Hash chooses how partition keys map to hash keys.
type Hash uint8

// The hashes.
const (
	// MD5 is Kinesis's own, so that a key lands on the shard where AWS would
	// put it.
	MD5 Hash = iota
	// XXHash is several times faster, for streams that need not agree with
	// Kinesis.
	XXHash
)

// String returns "md5" or "xxhash".
func (h Hash) String() string {
	if h > XXHash {
		return fmt.Sprintf("Hash(%d)", uint8(h))
	}
	return [...]string{"md5", "xxhash"}[h]
}

// Bounds of a stream's configuration.
const (
	// MaxShards is the largest number of open shards of a stream; AWS's own
	// quota is 20,000 in the largest regions, by request.
	MaxShards = 10_000
	// DefaultRetention is Kinesis's, 24 hours.
	DefaultRetention = 24 * time.Hour
	// MinRetention is far below Kinesis's 24 hours, for streams whose records are
	// read within moments.
	MinRetention = time.Second
	// MaxRetention is Kinesis's, 8,760 hours.
	MaxRetention = 8760 * time.Hour
	// Forever as Config.Retention keeps records whatever their age.
	Forever time.Duration = -1
	// MinRetentionBytes is the smallest bound by size.
	MinRetentionBytes = 64 << 10
	// MaxTags and the lengths of a tag are those of Kinesis, in characters.
	MaxTags           = 50
	MaxTagKeyLength   = 128
	MaxTagValueLength = 256
)

// Config says how a stream is created. The zero value of each field means its
// default.
type Config struct {
	// Shards is the number of shards to begin with, of equal hash key ranges.
	// Defaults to 1; at most MaxShards.
	Shards int
	// Retention is the age at which records are removed, by the block.
	// Defaults to DefaultRetention; MinRetention to MaxRetention, or Forever.
	//
	// A closed shard without records is listed for as long after its end; for
	// DefaultRetention if Retention is Forever and RetentionBytes bounds the
	// stream.
	Retention time.Duration
	// RetentionBytes bounds what the stream stores, all shards together: the
	// oldest blocks are removed above it. Defaults to 0, no bound; otherwise
	// at least MinRetentionBytes.
	RetentionBytes int64
	// MaxRecordSize is the record limit in bytes of data, partition key and
	// headers together. Defaults to shardlog.DefaultRecordSize; at most
	// shardlog.MaxRecordSize. Both are less in a database whose
	// Options.ValueLogFileBytes are small: a record has to fit into a file,
	// with 256 KiB to spare.
	MaxRecordSize int
	// Compression of blocks on disk. Defaults to NoCompression.
	Compression Compression
	// Hash of partition keys. Defaults to MD5. It cannot be changed later.
	Hash Hash
	// Limits are rate limits per shard. Defaults to none; KinesisLimits are
	// those of AWS.
	Limits Limits
	// DedupWindow is how long a record's DedupID is remembered: another record
	// with it that comes within that time of the first one's arrival is not
	// stored, and gets its result. 0 turns it off, and then records with a
	// DedupID are refused. Defaults to 0; MinDedupWindow to MaxDedupWindow.
	// Usual values are 2 min (the default of JetStream) and 5 min (that of SQS
	// FIFO queues). It costs memory for each ID, see MaxDedupIDs, and opening
	// the database reads the records of that time. Where retention is shorter,
	// the IDs of removed records are forgotten when the database is opened
	// again.
	DedupWindow time.Duration
	// Tags are labels for people and tools. At most MaxTags.
	Tags map[string]string
	// Attributes are texts that a program keeps with the stream; see
	// Stream.SetAttributes. At most MaxAttributes.
	Attributes map[string]string
}

// Limits are rates per shard; 0 is no limit. Over a limit, calls get
// shardlog.ErrThroughputExceeded with a time to wait, for just those records.
type Limits struct {
	// WriteRecords and WriteBytes are per second, with bursts of up to one
	// second's worth. Bytes count data, partition keys and headers.
	WriteRecords float64 `json:"writeRecords,omitempty"`
	WriteBytes   float64 `json:"writeBytes,omitempty"`
	// ReadBytes and ReadCalls are per second. A page may go over ReadBytes;
	// the reads after it wait for that.
	ReadBytes float64 `json:"readBytes,omitempty"`
	ReadCalls float64 `json:"readCalls,omitempty"`
}

// KinesisLimits returns the limits of a provisioned shard on AWS: 1,000
// records and 1 MiB a second in, 2 MiB and 5 reads a second out (Kinesis
// developer guide, quotas).
func KinesisLimits() Limits {
	return Limits{WriteRecords: 1000, WriteBytes: 1 << 20, ReadBytes: 2 << 20, ReadCalls: 5}
}

// withDefaults returns a checked copy of c, in a database that takes records
// of up to largest bytes; the error joins all faults.
func (c Config) withDefaults(largest int) (Config, error) {
	setDefault(&c.Shards, 1)
	setDefault(&c.Retention, DefaultRetention)
	setDefault(&c.MaxRecordSize, min(shardlog.DefaultRecordSize, largest))
	c.Tags, c.Attributes = maps.Clone(c.Tags), maps.Clone(c.Attributes)
	var errs []error
	check := func(ok bool, field string, value any, limit string) {
		if !ok {
			errs = append(errs, &shardlog.InvalidError{Field: "Config." + field, Value: value, Limit: limit})
		}
	}
	check(c.Shards >= 1 && c.Shards <= MaxShards, "Shards", c.Shards, fmt.Sprintf("1 to %d", MaxShards))
	check(c.MaxRecordSize >= 1 && c.MaxRecordSize <= largest, "MaxRecordSize", c.MaxRecordSize, fmt.Sprintf("1 to %d", largest))
	check(c.Compression <= Zstd, "Compression", c.Compression, "NoCompression, S2 or Zstd")
	check(c.Hash <= XXHash, "Hash", c.Hash, "MD5 or XXHash")
	errs = append(errs, checkRetention(c.Retention, c.RetentionBytes), checkDedupWindow(c.DedupWindow), checkTags(c.Tags),
		checkAttributes(c.Attributes), c.Limits.check())
	return c, errors.Join(errs...)
}

func checkRetention(age time.Duration, bytes int64) error {
	var errs []error
	if age != Forever && (age < MinRetention || age > MaxRetention) {
		errs = append(errs, &shardlog.InvalidError{Field: "Retention", Value: age, Limit: fmt.Sprintf("%v to %v, or Forever", MinRetention, MaxRetention)})
	}
	if bytes != 0 && bytes < MinRetentionBytes {
		errs = append(errs, &shardlog.InvalidError{Field: "RetentionBytes", Value: bytes, Limit: fmt.Sprintf("0 for no bound, or at least %d", MinRetentionBytes)})
	}
	return errors.Join(errs...)
}

func checkTags(tags map[string]string) error {
	if len(tags) > MaxTags {
		return &shardlog.InvalidError{Field: "Tags", Value: len(tags), Limit: fmt.Sprintf("at most %d", MaxTags)}
	}
	for k, v := range tags {
		if n := utf8.RuneCountInString(k); n < 1 || n > MaxTagKeyLength || !utf8.ValidString(k) {
			return &shardlog.InvalidError{Field: "tag key", Value: k, Limit: fmt.Sprintf("1 to %d characters of valid UTF-8", MaxTagKeyLength)}
		}
		if n := utf8.RuneCountInString(v); n > MaxTagValueLength || !utf8.ValidString(v) {
			return &shardlog.InvalidError{Field: "tag value", Value: v, Limit: fmt.Sprintf("at most %d characters of valid UTF-8", MaxTagValueLength)}
		}
	}
	return nil
}

func (l Limits) check() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value float64
	}{{"WriteRecords", l.WriteRecords}, {"WriteBytes", l.WriteBytes}, {"ReadBytes", l.ReadBytes}, {"ReadCalls", l.ReadCalls}} {
		if !(f.value >= 0 && f.value <= 1e12) { // also refuses NaN
			errs = append(errs, &shardlog.InvalidError{Field: "Limits." + f.name, Value: f.value, Limit: "0 for no limit, or a rate a second of at most 1e12"})
		}
	}
	return errors.Join(errs...)
}

func (c Compression) codec() block.Codec {
	return [...]block.Codec{block.None, block.S2, block.Zstd}[c]
}
