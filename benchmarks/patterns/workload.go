package patterns

import (
	"fmt"
	"time"
)

// Duration is a time.Duration that is written as text, such as "1m30s", in
// JSON and YAML.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the form is that of
// time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is no duration such as 10s", b)
	}
	*d = Duration(v)
	return nil
}

// String returns d as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// Kinds of Sizes.
const (
	SizeFixed     = "fixed"     // the data of every record has Bytes
	SizeLogNormal = "lognormal" // log-normal, as the sizes of many programs' messages are
	SizeLines     = "lines"     // records are the lines of Workload.Lines
)

// MinSize is the smallest size of a record's data, in bytes. All data begin with
// a header of this size that identifies the record and says when it was put. It
// overwrites the first bytes of a line; a shorter line is padded with spaces.
const MinSize = 20

// Sizes describes the sizes of the records' data, in bytes.
type Sizes struct {
	// Kind is SizeFixed, SizeLogNormal or SizeLines. Defaults to SizeFixed.
	Kind string `json:"kind" yaml:"kind"`
	// Bytes is the size of SizeFixed, and the median of SizeLogNormal. It
	// means nothing with SizeLines. Defaults to 256; at least MinSize.
	Bytes int `json:"bytes,omitempty" yaml:"bytes"`
	// Sigma is the standard deviation of the natural logarithm, with
	// SizeLogNormal: with 0.5 the largest 1 % are more than 3.2 times the
	// median, with 1 more than 10 times. Defaults to 0.5; at most 4.
	Sigma float64 `json:"sigma,omitempty" yaml:"sigma"`
	// Max bounds the sizes of SizeLogNormal. Defaults to 1 MiB less 256 bytes
	// for the key, which is also the largest value for Max and for Bytes.
	Max int `json:"max,omitempty" yaml:"max"`
}

// Kinds of Keys.
const (
	KeyUniform = "uniform" // Count keys, all as frequent
	KeyZipf    = "zipf"    // Count keys, the n-th as frequent as 1/n^Exponent
	KeyHot     = "hot"     // Count keys, of which one has HotShare of the records
	KeyLines   = "lines"   // a field of the line
)

// Keys describes the partition keys of the records.
type Keys struct {
	// Kind is KeyUniform, KeyZipf, KeyHot or KeyLines. Defaults to KeyUniform.
	Kind string `json:"kind" yaml:"kind"`
	// Count is the number of keys; not used with KeyLines. Defaults to 10,000;
	// at most 1,048,576.
	Count int `json:"count,omitempty" yaml:"count"`
	// Exponent of KeyZipf. Defaults to 1; 0.01 to 10.
	Exponent float64 `json:"exponent,omitempty" yaml:"exponent"`
	// HotShare is the share of records that the hot key of KeyHot has, above 0
	// and up to 1. Defaults to 0.5.
	HotShare float64 `json:"hotShare,omitempty" yaml:"hotShare"`
	// Field is the number of the field of a line that is the key with
	// KeyLines, from 1 on. Fields are separated by spaces. Defaults to 1.
	Field int `json:"field,omitempty" yaml:"field"`
}

// Ways to put records.
const (
	PutSingle = "single" // one call for each record; each producer makes one call at a time
	PutBatch  = "batch"  // calls with up to Batch records; each producer makes one call at a time
	PutAsync  = "async"  // a producer.Producer, which all producers share, forms the calls
)

// Modes of consumers.
const (
	ConsumePoll   = "poll"   // reads each shard every PollEvery, as consumers of Kinesis do
	ConsumeTail   = "tail"   // waits at the end of each shard for new records
	ConsumeFanOut = "fanout" // has dedicated throughput; records are pushed to it if the target can
	ConsumeGroup  = "group"  // a consumer.Consumer for each of Workers, with checkpoints
)

// Consumers describes the consumers.
type Consumers struct {
	// Count is the number of consumers, each of which reads everything; 0 for
	// none.
	Count int `json:"count" yaml:"count"`
	// Mode is ConsumePoll, ConsumeTail, ConsumeFanOut or ConsumeGroup.
	// Defaults to ConsumeTail.
	Mode string `json:"mode,omitempty" yaml:"mode"`
	// Workers is the number of workers that share the shards of a consumer with
	// ConsumeGroup. Defaults to 1.
	Workers int `json:"workers,omitempty" yaml:"workers"`
	// PollEvery is the interval at which ConsumePoll reads a shard that it has
	// read to its end. Defaults to 200 ms: Kinesis admits five reads a second.
	PollEvery Duration `json:"pollEvery,omitempty" yaml:"pollEvery"`
}

// Workload describes a run. The zero value of a field means its default.
type Workload struct {
	// Name identifies the workload: runs of the same name are compared.
	// Defaults to "custom".
	Name string `json:"name" yaml:"name"`
	// Description is one line of text.
	Description string `json:"description,omitempty" yaml:"description"`

	// Duration is the time for which records are put, including the warm-up.
	// Defaults to 10 s, or to no bound if Records is set.
	Duration Duration `json:"duration,omitempty" yaml:"duration"`
	// Records is the number of records after which the run ends. Defaults to 0:
	// the run ends after Duration.
	Records int64 `json:"records,omitempty" yaml:"records"`
	// WarmUp is the time at the beginning of the run that is not measured.
	// Defaults to none.
	WarmUp Duration `json:"warmUp,omitempty" yaml:"warmUp"`
	// Seed selects the sequence of keys and sizes. Defaults to 1.
	Seed uint64 `json:"seed,omitempty" yaml:"seed"`

	// Sizes and Keys describe the records.
	Sizes Sizes `json:"sizes" yaml:"sizes"`
	Keys  Keys  `json:"keys" yaml:"keys"`
	// Lines is a file whose lines are the records with SizeLines, and give the
	// keys with KeyLines. Each producer cycles through them in order, from a
	// different line on. Empty lines, and with KeyLines those that have no such
	// field or have NUL bytes, are left out. At most 256 MiB of the file are read.
	Lines string `json:"lines,omitempty" yaml:"lines"`

	// Rate is the number of records a second of all producers together, whether
	// the log keeps up or not (open loop). The latency of a record then counts
	// from the time at which it was due, so a stall shows in all records that
	// were due meanwhile. 0 is a closed loop: each producer puts its next
	// records when the last are acknowledged. Defaults to 0.
	Rate float64 `json:"rate,omitempty" yaml:"rate"`
	// Poisson makes the intervals between records random, as they are when many
	// independent clients send. Defaults to equal intervals.
	Poisson bool `json:"poisson,omitempty" yaml:"poisson"`
	// Producers is the number of concurrent producers. Defaults to 1; at most
	// 4,096.
	Producers int `json:"producers,omitempty" yaml:"producers"`
	// Put is PutSingle, PutBatch or PutAsync. Defaults to PutBatch.
	Put string `json:"put,omitempty" yaml:"put"`
	// Batch is the largest number of records in a call, with PutBatch and
	// PutAsync. Defaults to 500, the most that Kinesis takes; at most 10,000.
	Batch int `json:"batch,omitempty" yaml:"batch"`
	// Linger is the time that a record may wait for others, with PutBatch at a Rate
	// and with PutAsync. Defaults to 100 ms with PutBatch, as in KPL, and none with
	// PutAsync, which sends immediately and gathers records while a call is in
	// progress.
	Linger Duration `json:"linger,omitempty" yaml:"linger"`
	// Window is the largest number of records without an acknowledgement, with
	// PutAsync. Defaults to 10,000.
	Window int `json:"window,omitempty" yaml:"window"`
	// Aggregate packs several records into one stored record in KPL's format;
	// only with PutAsync. Defaults to off.
	Aggregate bool `json:"aggregate,omitempty" yaml:"aggregate"`

	// Shards of the stream. Defaults to 1.
	Shards int `json:"shards,omitempty" yaml:"shards"`
	// Sync is "always", "interval" or "never"; see stream.Durability. Defaults
	// to "always". Not for a Kinesis endpoint.
	Sync string `json:"sync,omitempty" yaml:"sync"`
	// Memory keeps everything in memory. Defaults to a directory.
	Memory bool `json:"memory,omitempty" yaml:"memory"`
	// Compression is "none", "s2" or "zstd". Defaults to "none". Not for a
	// Kinesis endpoint.
	Compression string `json:"compression,omitempty" yaml:"compression"`
	// Limits are "none" or "kinesis", those of AWS's provisioned shards.
	// Defaults to "none". A Kinesis endpoint has its own.
	Limits string `json:"limits,omitempty" yaml:"limits"`

	// Consumers read while records are put. Defaults to none.
	Consumers Consumers `json:"consumers" yaml:"consumers"`
	// Drain bounds the time after the last put in which records are
	// acknowledged and delivered. Defaults to 30 s.
	Drain Duration `json:"drain,omitempty" yaml:"drain"`
}
