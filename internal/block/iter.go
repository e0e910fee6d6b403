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

// Counter returns the counter of the record that Next will return.
func (it *Iter) Counter() uint64 { return it.next }

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
	if it.next >= it.end {
		return false, nil
	}
	data, off := it.data, it.off
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

// Plain does what Next and Item.Record do, for a record that has a short key,
// less than 16 KiB of data and nothing else, as nearly all have. It sets the
// key and the data of r, which point into the block, and no other fields. If it
// returns false it has done nothing; Next then returns the record or the error.
func (it *Iter) Plain(r *shardlog.Record) bool {
	data, off := it.data, it.off
	if it.next >= it.end || len(data)-off < 4 || data[off] != 0 {
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
	k := off + keyLen
	d := k + dataLen
	if d > len(data) {
		return false
	}
	r.PartitionKey = unsafe.String(&data[off], keyLen)
	r.Data = data[k:d:d]
	it.next++
	it.off = d
	return true
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

// Plain reports whether the item has nothing but a key and data.
func (item *Item) Plain() bool {
	return item.headers == nil && item.ID == nil && !item.Explicit.IsSet()
}

// Size returns the item's size as users count it: data, partition key, and the
// keys and values of headers. For the headers it is a few bytes more, those
// of their lengths, which saves taking them apart.
func (item *Item) Size() int { return len(item.Key) + len(item.Data) + len(item.headers) }

// Record fills in a Record over the item's bytes; the strings point into them
// too, so they must not change for as long as the record is used.
func (item *Item) Record(r *shardlog.Record) error {
	r.PartitionKey = unsafe.String(unsafe.SliceData(item.Key), len(item.Key))
	r.Data = item.Data
	r.ExplicitHashKey = item.Explicit
	r.DedupID, r.Headers = "", nil
	if item.ID != nil {
		r.DedupID = unsafe.String(unsafe.SliceData(item.ID), len(item.ID))
	}
	if item.headers == nil {
		return nil
	}
	return item.decodeHeaders(r)
}

func (item *Item) decodeHeaders(r *shardlog.Record) error {
	h := item.headers
	count, n := uvarint(h, 0)
	if n <= 0 || count > shardlog.MaxHeaders {
		return damage(-1, "%d headers in record %d", count, item.Counter)
	}
	h = h[n:]
	text := func() (string, bool) {
		size, n := uvarint(h, 0)
		if n <= 0 || size > uint64(len(h)-n) {
			return "", false
		}
		s := h[n : n+int(size)]
		h = h[n+int(size):]
		return unsafe.String(unsafe.SliceData(s), len(s)), true
	}
	r.Headers = make([]shardlog.Header, 0, count)
	for range count {
		key, ok1 := text()
		value, ok2 := text()
		if !ok1 || !ok2 {
			return damage(-1, "headers of record %d cut short", item.Counter)
		}
		r.Headers = append(r.Headers, shardlog.Header{Key: key, Value: value})
	}
	return nil
}

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
