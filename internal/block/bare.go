package block

import (
	"encoding/binary"

	"github.com/shardlog/shardlog"
)

// The bare form of a block is for those who have a checksum of their own, and for records
// that arrived in the same millisecond: the counter of the first, u64, when they arrived,
// u64, and how many they are, u32, of which the highest bit says that some may have dedup
// IDs; then the records. Its restart points are not stored.
const (
	BareHead = 20
	bareIDs  = 1 << 31
)

// AppendBare appends to dst the head of the bare form of what was added, and returns it
// with the records that follow. Those are the block's memory.
func (a *Addition) AppendBare(dst []byte) (head, records []byte) {
	b := a.b
	count := b.Count - a.was.Count
	if b.version == versionIDs {
		count |= bareIDs
	}
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, b.First+uint64(a.was.Count))
	dst = le.AppendUint64(dst, uint64(b.LastMs))
	return le.AppendUint32(dst, count), b.raw[a.first:]
}

// DecodeBare returns a whole block of the bare form, in memory of its own. The error is a
// *DamageError.
func DecodeBare(p []byte) (Block, error) {
	if len(p) < BareHead {
		return Block{}, damage(len(p), "%d bytes are less than a head", len(p))
	}
	le := binary.LittleEndian
	first, ms, count := le.Uint64(p), int64(le.Uint64(p[8:])), le.Uint32(p[16:])
	records := p[BareHead:]
	if n := int64(count &^ bareIDs); n == 0 || n > int64(len(records)) || len(records) > maxRaw || first == 0 || first > shardlog.MaxCounter-uint64(n) {
		return Block{}, damage(16, "%d records from %d on in %d bytes", n, first, len(records))
	}
	b := Block{Header: Header{First: first, Prev: first - 1, Count: count &^ bareIDs, FirstMs: ms, LastMs: ms}, version: version}
	if count&bareIDs != 0 {
		b.version = versionIDs
	}
	b.raw = append(make([]byte, HeaderSize, HeaderSize+len(records)+len(records)/restartSpacing*restartSize), records...)
	b.itemsEnd = len(b.raw)
	var points []byte
	due := restartSpacing
	it, err := b.Seek(first)
	if err != nil {
		return Block{}, err
	}
	for item := new(Item); ; {
		if it.off >= due && it.next < b.End() {
			points = appendRestart(points, uint32(it.next-first), it.off, ms)
			due = it.off + restartSpacing
		}
		ok, err := it.Next(item)
		if err != nil {
			return Block{}, err
		}
		if !ok {
			break
		}
		if item.Ms != ms {
			return Block{}, damage(BareHead, "record %d arrived at another time", item.Counter)
		}
	}
	b.raw = append(b.raw, points...)
	b.table = b.raw[b.itemsEnd:]
	putHeader(b.raw, &b.Header, b.version, None, len(b.raw)-HeaderSize, b.restarts())
	return b, nil
}
