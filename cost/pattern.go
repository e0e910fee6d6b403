package cost

import (
	"math"

	"github.com/shardlog/shardlog"
)

// Limits of one shard of Kinesis, per second (Kinesis quotas), in both modes.
const (
	ShardRecords   = 1000
	ShardBytes     = 1 << 20
	ShardReadBytes = 2 << 20
)

const (
	kb = 1024
	gb = 1 << 30
	// unitBytes is the size of a PUT payload unit.
	unitBytes = 25 * kb
	// maxRate bounds rates, so that sums stay exact enough.
	maxRate = 1e12
)

// Bounds of Options.
const (
	// MaxShards is the largest number of shards that an estimate looks at.
	MaxShards = 100_000
	// MaxReaders is the largest number of consumers of each type.
	MaxReaders = 1000
)

// PutUnits returns how many PUT payload units a record of so many bytes is:
// one for each 25 KB begun, and at least one (Kinesis pricing).
func PutUnits(bytes int64) int64 { return max(1, (bytes+unitBytes-1)/unitBytes) }

// RoundedBytes returns what on-demand bills for a record of so many bytes: it
// rounded up to 1 KB, and at least that (Kinesis pricing).
func RoundedBytes(bytes int64) int64 { return max(1, (bytes+kb-1)/kb) * kb }

// Pattern is a load: what comes in a second, in the mean, which is billed, and
// in the worst second, which has to fit.
type Pattern struct {
	// Records and Bytes, of data and keys, are put in a mean second.
	Records float64 `json:"records"`
	Bytes   float64 `json:"bytes"`
	// PutUnits and RoundedBytes are what is billed for them in a mean second,
	// each record rounded by itself.
	PutUnits     float64 `json:"putUnits"`
	RoundedBytes float64 `json:"roundedBytes"`
	// PeakRecords and PeakBytes are those of the worst second of all shards
	// together; the two may be of different seconds.
	PeakRecords float64 `json:"peakRecords"`
	PeakBytes   float64 `json:"peakBytes"`
	// HotShare is the part of the worst second that one partition key has, and
	// that therefore cannot be spread over shards: 0 to 1.
	HotShare float64 `json:"hotShare"`
	// Aggregated says that what was measured are aggregates already, so there
	// is nothing to gain by aggregation.
	Aggregated bool `json:"aggregated"`
	// Basis says what the worst second is known from.
	Basis string `json:"basis"`

	trace *Trace
}

// Description is a load in a few figures.
type Description struct {
	// Records is the mean rate, a second.
	Records float64
	// Size is of each record, data and key, in bytes; at most 10 MiB, the most
	// that Kinesis takes.
	Size int64
	// Peak is how many times the mean the worst second is. Defaults to 1.
	Peak float64
	// HotShare is the part of the records that the most frequent key has, 0 to
	// 1. Defaults to 0: evenly spread.
	HotShare float64
}

// Describe returns the pattern of a description; a bad one is a
// *shardlog.InvalidError.
func Describe(d Description) (Pattern, error) {
	if d.Peak == 0 {
		d.Peak = 1
	}
	switch {
	case !(d.Records > 0 && d.Records <= maxRate):
		return Pattern{}, &shardlog.InvalidError{Field: "Records", Value: d.Records, Limit: "above 0, at most 1e12"}
	case d.Size < 1 || d.Size > shardlog.MaxRecordSize:
		return Pattern{}, &shardlog.InvalidError{Field: "Size", Value: d.Size, Limit: "1 to 10485760"}
	case !(d.Peak >= 1 && d.Peak <= 1e6):
		return Pattern{}, &shardlog.InvalidError{Field: "Peak", Value: d.Peak, Limit: "1 to 1000000"}
	case !(d.HotShare >= 0 && d.HotShare <= 1):
		return Pattern{}, &shardlog.InvalidError{Field: "HotShare", Value: d.HotShare, Limit: "0 to 1"}
	}
	bytes := d.Records * float64(d.Size)
	return Pattern{
		Records: d.Records, Bytes: bytes,
		PutUnits: d.Records * float64(PutUnits(d.Size)), RoundedBytes: d.Records * float64(RoundedBytes(d.Size)),
		PeakRecords: d.Records * d.Peak, PeakBytes: bytes * d.Peak, HotShare: d.HotShare,
		Basis: "described",
	}, nil
}

// check returns the first fault of a pattern that was not made by this package.
func (p *Pattern) check() error {
	for _, f := range []struct {
		name  string
		value float64
	}{{"Records", p.Records}, {"Bytes", p.Bytes}, {"PutUnits", p.PutUnits}, {"RoundedBytes", p.RoundedBytes}, {"PeakRecords", p.PeakRecords}, {"PeakBytes", p.PeakBytes}} {
		if !(f.value > 0 && f.value <= maxRate*shardlog.MaxRecordSize) {
			return &shardlog.InvalidError{Field: "Pattern." + f.name, Value: f.value, Limit: "above 0, and not too large"}
		}
	}
	if !(p.HotShare >= 0 && p.HotShare <= 1) {
		return &shardlog.InvalidError{Field: "Pattern.HotShare", Value: p.HotShare, Limit: "0 to 1"}
	}
	return nil
}

// worst returns what the fullest of n shards gets in its worst second, and in
// how many of the seconds known some shard is over a limit; -1 if seconds are
// not known.
func (p *Pattern) worst(n int) (records, bytes float64, over int) {
	if p.trace != nil {
		return p.trace.worst(n)
	}
	// The hot key's shard has its part of the rest too.
	share := p.HotShare + (1-p.HotShare)/float64(n)
	return p.PeakRecords * share, p.PeakBytes * share, -1
}

// hottest returns what one key alone puts in its worst second.
func (p *Pattern) hottest() (key string, records, bytes float64) {
	if p.trace != nil {
		return p.trace.hottest()
	}
	return "", p.PeakRecords * p.HotShare, p.PeakBytes * p.HotShare
}

// fill is how full a shard is with that, 1 being its limit.
func fill(records, bytes float64) float64 {
	return math.Max(records/ShardRecords, bytes/ShardBytes)
}
