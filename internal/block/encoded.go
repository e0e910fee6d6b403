package block

import (
	"encoding/binary"

	"github.com/shardlog/shardlog"
)

// Encoded is a record without headers and dedup ID that is encoded already.
type Encoded struct {
	Key     string           // the partition key
	HashKey shardlog.HashKey // the explicit one; unset for none
	Bytes   []byte           // what AppendRecord made of it
	Data    []byte           // the end of Bytes
}

// Size returns the bytes that count towards limits; see shardlog.Record.Size.
func (it *Encoded) Size() int { return len(it.Key) + len(it.Data) }

// Record returns the record, which refers to the same memory.
func (it *Encoded) Record() shardlog.Record {
	return shardlog.Record{PartitionKey: it.Key, ExplicitHashKey: it.HashKey, Data: it.Data}
}

// EncodedSize returns the most bytes that it can take in a block.
func (it *Encoded) EncodedSize() int { return markerSize + len(it.Bytes) }

// Run is a sequence of encoded records that does not change while others use it.
type Run interface {
	// Len returns how many records there are.
	Len() int
	// At sets it to record i.
	At(i int, it *Encoded)
}

// MaxEncoded returns how many bytes AppendRecord appends at most.
func MaxEncoded(key string, data []byte) int {
	return 1 + 2*binary.MaxVarintLen32 + 16 + len(key) + len(data)
}

// AppendRecord appends a record to buf as blocks have it. Its data is the end of
// what is appended.
func AppendRecord(buf []byte, key string, hashKey shardlog.HashKey, data []byte) []byte {
	return append(AppendHead(buf, key, hashKey, len(data)), data...)
}

// AppendHead appends what AppendRecord appends before the data, of which there are
// n bytes.
func AppendHead(buf []byte, key string, hashKey shardlog.HashKey, n int) []byte {
	flags := byte(0)
	if hashKey.IsSet() {
		flags = flagExplicit
	}
	buf = append(buf, flags)
	buf = binary.AppendUvarint(buf, uint64(len(key)))
	buf = binary.AppendUvarint(buf, uint64(n))
	if flags != 0 {
		hi, lo := hashKey.Words()
		buf = binary.BigEndian.AppendUint64(buf, hi)
		buf = binary.BigEndian.AppendUint64(buf, lo)
	}
	return append(buf, key...)
}

// HeadSize returns how many bytes AppendHead appends.
func HeadSize(key string, hashKey shardlog.HashKey, n int) int {
	size := 1 + uvarintLen(uint64(len(key))) + uvarintLen(uint64(n)) + len(key)
	if hashKey.IsSet() {
		size += 16
	}
	return size
}

// AppendEncoded is Append for a record that is encoded already.
func (b *Builder) AppendEncoded(it *Encoded, ms int64) {
	b.mark(ms)
	b.raw = append(b.raw, it.Bytes...)
	b.h.Count++
}
