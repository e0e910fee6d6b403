package cost

import (
	"math/bits"
	"time"

	"github.com/shardlog/shardlog"
)

// maxTrace bounds the pairs of a second and a key that a Trace keeps, which is
// its memory.
const maxTrace = 20_000_000

// Trace collects real records, in any order, and knows their load second by
// second and key by key. Its zero value is ready. It needs memory for each key
// of each second, about 100 bytes. It must not be used concurrently, nor be
// added to while a Pattern of it is used.
type Trace struct {
	seconds map[int64]map[shardlog.HashKey]*load
	keys    map[shardlog.HashKey]string
	pairs   int

	records, bytes, units, rounded int64
	first, last                    int64
}

type load struct{ records, bytes float64 }

// Add counts a record. Size is of data and key, in bytes; the key may be empty.
// A size out of 0 to 10 MiB, and more keys than there is room for, are a
// *shardlog.InvalidError.
func (t *Trace) Add(at time.Time, key string, size int64) error {
	if size < 0 || size > shardlog.MaxRecordSize {
		return &shardlog.InvalidError{Field: "size", Value: size, Limit: "0 to 10485760"}
	}
	if t.seconds == nil {
		t.seconds, t.keys = map[int64]map[shardlog.HashKey]*load{}, map[shardlog.HashKey]string{}
	}
	second, hash := at.Unix(), shardlog.KeyHash(key)
	byKey := t.seconds[second]
	if byKey == nil {
		byKey = map[shardlog.HashKey]*load{}
		t.seconds[second] = byKey
	}
	l := byKey[hash]
	if l == nil {
		if t.pairs >= maxTrace {
			return &shardlog.InvalidError{Field: "trace", Value: t.pairs + 1, Limit: "at most 20000000 different pairs of second and key"}
		}
		t.pairs++
		l = &load{}
		byKey[hash] = l
		if _, ok := t.keys[hash]; !ok {
			t.keys[hash] = key
		}
	}
	if t.records == 0 || second < t.first {
		t.first = second
	}
	if t.records == 0 || second > t.last {
		t.last = second
	}
	l.records, l.bytes = l.records+1, l.bytes+float64(size)
	t.records, t.bytes = t.records+1, t.bytes+size
	t.units, t.rounded = t.units+PutUnits(size), t.rounded+RoundedBytes(size)
	return nil
}

// Records is how many were added.
func (t *Trace) Records() int64 { return t.records }

// Seconds is from the first second with a record to the last, both included.
func (t *Trace) Seconds() int64 {
	if t.records == 0 {
		return 0
	}
	return t.last - t.first + 1
}

// Pattern returns the load of the records. Shards are then found by placing
// each key where Kinesis would put it, by its MD5, for each number of shards.
// It is a *shardlog.InvalidError if there are no records.
func (t *Trace) Pattern() (Pattern, error) {
	if t.records == 0 {
		return Pattern{}, &shardlog.InvalidError{Field: "trace", Value: 0, Limit: "at least one record"}
	}
	s := float64(t.Seconds())
	p := Pattern{
		Records: float64(t.records) / s, Bytes: max(1, float64(t.bytes)) / s, PutUnits: float64(t.units) / s, RoundedBytes: float64(t.rounded) / s,
		Basis: "measured, second by second", trace: t,
	}
	for _, byKey := range t.seconds {
		var sum, top load
		for _, l := range byKey {
			sum.records, sum.bytes = sum.records+l.records, sum.bytes+l.bytes
			if l.records > top.records {
				top = *l
			}
		}
		if sum.records > p.PeakRecords {
			p.PeakRecords, p.HotShare = sum.records, top.records/sum.records
		}
		p.PeakBytes = max(p.PeakBytes, sum.bytes, 1)
	}
	return p, nil
}

// worst is as Pattern.worst has it, with even hash ranges, as a new stream has.
func (t *Trace) worst(n int) (records, bytes float64, over int) {
	shards := make([]load, n)
	var touched []int
	for _, byKey := range t.seconds {
		touched = touched[:0]
		for hash, l := range byKey {
			hi, _ := hash.Words()
			i, _ := bits.Mul64(hi, uint64(n))
			if shards[i] == (load{}) {
				touched = append(touched, int(i))
			}
			shards[i].records, shards[i].bytes = shards[i].records+l.records, shards[i].bytes+l.bytes
		}
		late := false
		for _, i := range touched {
			records, bytes = max(records, shards[i].records), max(bytes, shards[i].bytes)
			late = late || fill(shards[i].records, shards[i].bytes) > 1
			shards[i] = load{}
		}
		if late {
			over++
		}
	}
	return records, bytes, over
}

// hottest returns the key whose worst second is fullest.
func (t *Trace) hottest() (key string, records, bytes float64) {
	for _, byKey := range t.seconds {
		for hash, l := range byKey {
			// Of equals the smaller, so that the same records give the same.
			if k, f, g := t.keys[hash], fill(l.records, l.bytes), fill(records, bytes); f > g || f == g && k < key {
				key, records, bytes = k, l.records, l.bytes
			}
		}
	}
	return key, records, bytes
}
