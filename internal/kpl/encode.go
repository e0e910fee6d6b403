package kpl

import (
	"crypto/md5"
	"encoding/binary"
	"math/bits"

	"github.com/shardlog/shardlog"
)

// Builder collects user records and writes them as one aggregate. Its zero
// value is ready. It refers to the records until Reset, and keeps its own memory
// for reuse beyond that. It is not safe for concurrent use.
type Builder struct {
	records  []item
	keys     table
	hashKeys table
	size     int // of the message
}

// item is a record of a Builder.
type item struct {
	data    []byte
	headers []shardlog.Header
	key     uint32
	hashKey uint32 // index + 1; 0 for none
	size    int    // of its message
	tags    int    // of these, bytes of the headers
}

// table is one of the two tables: strings without repetition.
type table struct {
	list  []string
	index map[string]uint32 // used from fewKeys entries on
}

// fewKeys is up to how many entries a table is searched without a map, which is
// faster there.
const fewKeys = 4

func (t *table) find(s string) (uint32, bool) {
	if n := len(t.list); n <= fewKeys || t.list[n-1] == s {
		for i := n - 1; i >= 0; i-- {
			if t.list[i] == s {
				return uint32(i), true
			}
		}
		return uint32(n), false
	}
	i, ok := t.index[s]
	if !ok {
		i = uint32(len(t.list))
	}
	return i, ok
}

func (t *table) add(s string) {
	t.list = append(t.list, s)
	n := len(t.list)
	if n <= fewKeys {
		return
	}
	if t.index == nil {
		t.index = make(map[string]uint32)
	}
	if n == fewKeys+1 {
		for i, s := range t.list {
			t.index[s] = uint32(i)
		}
		return
	}
	t.index[s] = uint32(n - 1)
}

func (t *table) reset() {
	clear(t.list)
	clear(t.index)
	t.list = t.list[:0]
}

// Len returns how many records were added.
func (b *Builder) Len() int { return len(b.records) }

// Size returns the length of the aggregate, in bytes.
func (b *Builder) Size() int { return b.size + Overhead }

// Reset removes the records.
func (b *Builder) Reset() {
	clear(b.records)
	b.records, b.size = b.records[:0], 0
	b.keys.reset()
	b.hashKeys.reset()
}

// Add adds r, and reports whether it did: not if the aggregate would be longer
// than limit bytes. What r refers to must not change until Append.
func (b *Builder) Add(r UserRecord, limit int) bool {
	key, known := b.keys.find(r.PartitionKey)
	grow := 0
	if !known {
		grow = stringSize(len(r.PartitionKey))
	}
	it := item{data: r.Data, headers: r.Headers, key: key}
	it.size = 1 + varintSize(uint64(key)) + stringSize(len(r.Data))
	var hash string
	newHash := false
	if r.HashKey.IsSet() {
		hash = r.HashKey.String()
		i, known := b.hashKeys.find(hash)
		if newHash = !known; newHash {
			grow += stringSize(len(hash))
		}
		it.hashKey = i + 1
		it.size += 1 + varintSize(uint64(i))
	}
	for i := range r.Headers {
		it.tags += stringSize(tagSize(&r.Headers[i]))
	}
	it.size += it.tags
	grow += stringSize(it.size)
	if b.Size()+grow > limit {
		return false
	}
	if !known {
		b.keys.add(r.PartitionKey)
	}
	if newHash {
		b.hashKeys.add(hash)
	}
	b.records = append(b.records, it)
	b.size += grow
	return true
}

// Append appends the aggregate, Size bytes, to dst. The tables are before the
// records, as KPL writes them.
func (b *Builder) Append(dst []byte) []byte {
	n := len(dst)
	if need := n + b.Size(); cap(dst) < need {
		dst = append(make([]byte, 0, need), dst...)
	}
	dst = b.message(append(dst, Magic...))
	sum := md5.Sum(dst[n+len(Magic):])
	return append(dst, sum[:]...)
}

// message appends the protobuf message.
func (b *Builder) message(dst []byte) []byte {
	for _, k := range b.keys.list {
		dst = appendString(dst, tagKey, k)
	}
	for _, k := range b.hashKeys.list {
		dst = appendString(dst, tagHashKey, k)
	}
	for i := range b.records {
		it := &b.records[i]
		dst = binary.AppendUvarint(append(dst, tagRecord), uint64(it.size))
		dst = binary.AppendUvarint(append(dst, tagKeyIndex), uint64(it.key))
		if it.hashKey > 0 {
			dst = binary.AppendUvarint(append(dst, tagHashKeyIndex), uint64(it.hashKey-1))
		}
		dst = binary.AppendUvarint(append(dst, tagData), uint64(len(it.data)))
		dst = append(dst, it.data...)
		for j := range it.headers {
			h := &it.headers[j]
			dst = binary.AppendUvarint(append(dst, tagTag), uint64(tagSize(h)))
			dst = appendString(dst, tagTagKey, h.Key)
			dst = appendString(dst, tagTagValue, h.Value)
		}
	}
	return dst
}

// Alone returns the length of an aggregate of r alone, in bytes.
func Alone(r UserRecord) int {
	var b Builder
	b.Add(r, int(^uint(0)>>1))
	return b.Size()
}

func appendString(dst []byte, tag byte, s string) []byte {
	return append(binary.AppendUvarint(append(dst, tag), uint64(len(s))), s...)
}

// stringSize returns the length of a field with n bytes of content.
func stringSize(n int) int { return 1 + varintSize(uint64(n)) + n }

func tagSize(h *shardlog.Header) int { return stringSize(len(h.Key)) + stringSize(len(h.Value)) }

// varintSize returns how many bytes hold v, at seven bits each.
func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
