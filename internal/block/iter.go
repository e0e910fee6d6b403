package block

import (
	"encoding/binary"
	"unsafe"

	"github.com/shardlog/shardlog"
)

// The first byte of an item: a time marker, or a record with these flags.
const (
	flagHeaders  = 1 << 0
	flagExplicit = 1 << 1
	flagID       = 1 << 2
	flagMarker   = 1 << 7
	markerSize   = 9
)

// knownFlags are those that a record in a block of the version may have.
func knownFlags(version byte) byte {
	if version >= versionIDs {
		return flagHeaders | flagExplicit | flagID
	}
	return flagHeaders | flagExplicit
}

// Item is one record inside a block. Its slices point into the block.
type Item struct {
	Counter  uint64
	Ms       int64 // arrival, Unix milliseconds
	Key      []byte
	Data     []byte
	Explicit shardlog.HashKey
	ID       []byte // dedup ID; nil for none
	headers  []byte
}

// Iter walks over the records of a block. It is a value: a copy continues from
// the same place.
type Iter struct {
	data []byte
	off  int
	next uint64 // counter of the record that Next returns
	end  uint64
	ms   int64

	known byte // flags
}

// Ms returns the arrival of the record that was returned last, in Unix
// milliseconds.
func (it *Iter) Ms() int64 { return it.ms }

// Counter returns the counter of the record that Next will return.
func (it *Iter) Counter() uint64 { return it.next }

// Left returns how many records Next and Record have left.
func (it *Iter) Left() uint64 { return it.end - it.next }

// AtEnd returns an iterator at the end of the block.
func (it *Iter) AtEnd() Iter {
	end := *it
	end.off, end.next = len(it.data), it.end
	return end
}

// Done reports whether Next has nothing left.
func (it *Iter) Done() bool { return it.next >= it.end }

// Own gives the iterator a private copy of the bytes that it has left, up to
// but not including those of stop, an iterator further on in the same block.
// What Next returns then belongs to the caller.
func (it *Iter) Own(stop Iter) {
	// A damaged table of restart points may put stop before it; then Next finds
	// nothing where it expects a record.
	it.data = append([]byte(nil), it.data[it.off:max(it.off, stop.off)]...)
	it.off, it.end = 0, stop.next
}

// Next decodes one record into item; ok is false at the end. For a record that
// cannot be decoded the error is a *DamageError, and the iterator must not be
// used after it.
func (it *Iter) Next(item *Item) (ok bool, err error) {
	data, off := it.data, it.off
	if it.next >= it.end {
		if off != len(data) {
			return false, damage(HeaderSize+off, "%d bytes follow the last record", len(data)-off)
		}
		return false, nil
	}
	if off < len(data) && data[off]&flagMarker != 0 {
		if len(data)-off < markerSize {
			return false, damage(HeaderSize+off, "time marker cut short")
		}
		it.ms = int64(binary.LittleEndian.Uint64(data[off+1:]))
		off += markerSize
	}
	if off >= len(data) {
		return false, damage(HeaderSize+off, "record %d of the block is missing", it.next)
	}
	flags := data[off]
	if flags&^it.known != 0 {
		return false, damage(HeaderSize+off, "unknown record flags %#x", flags)
	}
	off++
	keyLen, n1 := uvarint(data, off)
	dataLen, n2 := uvarint(data, off+n1)
	if n1 <= 0 || n2 <= 0 {
		return false, damage(HeaderSize+off, "record length cut short")
	}
	off += n1 + n2
	item.Explicit, item.ID, item.headers = shardlog.HashKey{}, nil, nil
	if flags != 0 {
		if off, err = it.optional(item, flags, off); err != nil {
			return false, err
		}
	}
	// Each length is compared alone first: their sum could wrap around.
	left := uint64(len(data) - off)
	if keyLen > left || dataLen > left-keyLen {
		return false, damage(HeaderSize+off, "record of %d and %d bytes runs over the end", keyLen, dataLen)
	}
	k := off + int(keyLen)
	d := k + int(dataLen)
	item.Key, item.Data = data[off:k:k], data[k:d:d]
	item.Counter, item.Ms = it.next, it.ms
	it.next++
	it.off = d
	return true, nil
}

// Record decodes the next record into r as Next and Item.Record do, in one step:
// it sets what the block has of the record and no other fields. The strings and
// the data point into the block; Headers are over memory of h. Where it returns
// false it has consumed nothing, and r is undefined: Next then finds the end or
// the error, or decodes what Record leaves to it, which is lengths of more than
// two bytes.
func (it *Iter) Record(r *shardlog.Record, h *Headers) bool {
	data, off, ms := it.data, it.off, it.ms
	if it.next >= it.end || len(data)-off < 4 {
		return false
	}
	flags := data[off]
	if flags&flagMarker != 0 {
		if len(data)-off < markerSize+4 {
			return false
		}
		ms = int64(binary.LittleEndian.Uint64(data[off+1:]))
		off += markerSize
		flags = data[off]
	}
	if flags&^it.known != 0 {
		return false
	}
	keyLen, dataLen := int(data[off+1]), int(data[off+2])
	if keyLen >= 0x80 || keyLen == 0 {
		return false
	}
	off += 3
	if dataLen >= 0x80 {
		if data[off] >= 0x80 {
			return false
		}
		dataLen = dataLen&0x7f | int(data[off])<<7
		off++
	}
	r.ExplicitHashKey, r.DedupID, r.Headers = shardlog.HashKey{}, "", nil
	if flags != 0 {
		if off = it.recordParts(r, h, flags, off); off < 0 {
			return false
		}
	}
	k := off + keyLen
	d := k + dataLen
	if d > len(data) {
		return false
	}
	r.PartitionKey = unsafe.String(&data[off], keyLen)
	r.Data = data[k:d:d]
	it.next++
	it.off, it.ms = d, ms
	return true
}

// recordParts is optional for Record; it returns where the key is, or -1 where
// it decodes nothing.
func (it *Iter) recordParts(r *shardlog.Record, h *Headers, flags byte, off int) int {
	data := it.data
	if flags&flagExplicit != 0 {
		if len(data)-off < 16 {
			return -1
		}
		r.ExplicitHashKey = shardlog.NewHashKey(binary.BigEndian.Uint64(data[off:]), binary.BigEndian.Uint64(data[off+8:]))
		off += 16
	}
	if flags&flagID != 0 {
		size, n := uvarint(data, off)
		if n <= 0 || size > uint64(len(data)-off-n) {
			return -1
		}
		off += n + int(size)
		r.DedupID = text(data[off-int(size) : off])
	}
	if flags&flagHeaders != 0 {
		size, n := uvarint(data, off)
		if n <= 0 || size > uint64(len(data)-off-n) {
			return -1
		}
		off += n + int(size)
		hs, reason := h.decode(data[off-int(size) : off])
		if reason != "" {
			return -1
		}
		r.Headers = hs
	}
	return off
}

// optional decodes the parts of a record that most records do not have.
func (it *Iter) optional(item *Item, flags byte, off int) (int, error) {
	if flags&flagExplicit != 0 {
		if len(it.data)-off < 16 {
			return off, damage(HeaderSize+off, "explicit hash key cut short")
		}
		item.Explicit = shardlog.NewHashKey(binary.BigEndian.Uint64(it.data[off:]), binary.BigEndian.Uint64(it.data[off+8:]))
		off += 16
	}
	if flags&flagID != 0 {
		size, n := uvarint(it.data, off)
		if n <= 0 || size > uint64(len(it.data)-off-n) {
			return off, damage(HeaderSize+off, "dedup ID cut short")
		}
		off += n
		item.ID = it.data[off : off+int(size)]
		off += int(size)
	}
	if flags&flagHeaders != 0 {
		size, n := uvarint(it.data, off)
		if n <= 0 || size > uint64(len(it.data)-off-n) {
			return off, damage(HeaderSize+off, "headers cut short")
		}
		off += n
		item.headers = it.data[off : off+int(size)]
		off += int(size)
	}
	return off, nil
}

// Size returns the item's size as users count it: data, partition key, and the
// keys and values of headers. For the headers it is a few bytes more, those
// of their lengths, which saves taking them apart.
func (item *Item) Size() int { return len(item.Key) + len(item.Data) + len(item.headers) }

// Record fills in a Record over the item's bytes; the strings point into them
// too, so they must not change for as long as the record is used. Headers are
// over memory of h.
func (item *Item) Record(r *shardlog.Record, h *Headers) error {
	r.PartitionKey = text(item.Key)
	r.Data = item.Data
	r.ExplicitHashKey = item.Explicit
	r.DedupID, r.Headers = text(item.ID), nil
	if item.headers == nil {
		return nil
	}
	hs, reason := h.decode(item.headers)
	if reason != "" {
		return damage(-1, "headers of record %d: %s", item.Counter, reason)
	}
	r.Headers = hs
	return nil
}

// text returns bytes as a string over the same memory.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// uvarint reads at p[off:]; n is 0 or negative when there is no number there.
// The one-byte case is by far the most frequent.
func uvarint(p []byte, off int) (v uint64, n int) {
	if uint(off) < uint(len(p)) && p[off] < 0x80 {
		return uint64(p[off]), 1
	}
	if off < 0 || off >= len(p) {
		return 0, 0
	}
	return binary.Uvarint(p[off:])
}
