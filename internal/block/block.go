// Package block encodes runs of records of one shard as single values. Its
// byte layout is specified in docs/FORMAT.md.
//
// A block is a header with a checksum over everything that follows it, the
// records one after another, and a table of restart points, so that a reader
// reaches a record near the end without decoding those before it.
package block

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/cespare/xxhash/v2"
)

// Sizes of the format.
const (
	HeaderSize  = 64
	restartSize = 16
	// restartSpacing is how many bytes of records lie between restart points.
	restartSpacing = 4096
	magic          = 0x31424c53 // "SLB1"
	// version is that of a block without dedup IDs, versionIDs of one that
	// may have some, which older programs do not know.
	version    = 1
	versionIDs = 2
	// maxRaw bounds the uncompressed size that a reader believes, so that a
	// damaged header cannot make it allocate without limit: the largest
	// record with its key and headers, many times over.
	maxRaw = 1 << 28
)

// Codec names a compression.
type Codec uint8

// The codecs. The numbers are part of the format.
const (
	None Codec = 0
	S2   Codec = 1
	Zstd Codec = 2
)

// Header describes a block.
type Header struct {
	First   uint64 // counter of the first record; the others follow without gaps
	Prev    uint64 // counter of the last record of the shard before this block
	Count   uint32 // records in the block
	FirstMs int64  // arrival of the first record, Unix milliseconds
	LastMs  int64  // arrival of the last record, Unix milliseconds
}

// End returns the counter after that of the last record.
func (h *Header) End() uint64 { return h.First + uint64(h.Count) }

// DamageError says where in an encoded block the damage is.
type DamageError struct {
	Offset int64
	Reason string
}

// Error describes e in one line.
func (e *DamageError) Error() string { return fmt.Sprintf("offset %d: %s", e.Offset, e.Reason) }

func damage(off int, format string, args ...any) error {
	return &DamageError{Offset: int64(off), Reason: fmt.Sprintf(format, args...)}
}

// Block is a decoded block: header fields and the uncompressed bytes. It is
// immutable; its bytes may be shared by many readers and must not be changed.
type Block struct {
	Header
	raw      []byte // header, records, restart table
	itemsEnd int    // where the restart table begins in raw
}

// HasIDs reports whether some records of b may have a dedup ID.
func (b *Block) HasIDs() bool { return b.version() >= versionIDs }

func (b *Block) version() byte { return b.raw[12] }

// Size returns the bytes that b holds in memory.
func (b *Block) Size() int { return len(b.raw) }

// IsZero reports whether b was never filled in.
func (b *Block) IsZero() bool { return b.raw == nil }

// putHeader writes the header into raw[:HeaderSize] and computes the checksum.
func putHeader(raw []byte, h *Header, version byte, codec Codec, rawLen, restarts int) {
	le := binary.LittleEndian
	le.PutUint32(raw[8:], magic)
	raw[12], raw[13], raw[14], raw[15] = version, byte(codec), 0, 0
	le.PutUint64(raw[16:], h.First)
	le.PutUint64(raw[24:], h.Prev)
	le.PutUint32(raw[32:], h.Count)
	le.PutUint32(raw[36:], uint32(rawLen))
	le.PutUint64(raw[40:], uint64(h.FirstMs))
	le.PutUint64(raw[48:], uint64(h.LastMs))
	le.PutUint32(raw[56:], uint32(len(raw)-HeaderSize))
	le.PutUint32(raw[60:], uint32(restarts))
	le.PutUint64(raw, xxhash.Sum64(raw[8:]))
}

// Encoded is Coder.Encode with a coder of its own.
func (b *Block) Encoded(codec Codec) []byte { return new(Coder).Encode(b, codec) }

// Encode returns the bytes to store: compressed if codec makes them smaller.
// Without compression it is b's own memory.
func (c *Coder) Encode(b *Block, codec Codec) []byte {
	if codec == None {
		return b.raw
	}
	body := b.raw[HeaderSize:]
	out := c.compress(codec, body)
	if len(out) >= len(b.raw) {
		return b.raw
	}
	putHeader(out, &b.Header, b.version(), codec, len(body), (len(b.raw)-b.itemsEnd)/restartSize)
	return out
}

// Decode is Coder.Decode with a coder of its own.
func Decode(value []byte) (Block, error) { return new(Coder).Decode(value) }

// Decode verifies the checksum of an encoded block and takes it apart. The
// result keeps value unless it was compressed; value must not change after.
// The error is a *DamageError.
func (c *Coder) Decode(value []byte) (Block, error) {
	if len(value) < HeaderSize {
		return Block{}, damage(len(value), "%d bytes are less than a header", len(value))
	}
	le := binary.LittleEndian
	if m := le.Uint32(value[8:]); m != magic {
		return Block{}, damage(8, "magic number is %#x", m)
	}
	if v := value[12]; v != version && v != versionIDs {
		return Block{}, damage(12, "block version %d is not known", v)
	}
	if got, want := xxhash.Sum64(value[8:]), le.Uint64(value); got != want {
		return Block{}, damage(0, "checksum is %#x, expected %#x", got, want)
	}
	rawLen, bodyLen, restarts := int(le.Uint32(value[36:])), int(le.Uint32(value[56:])), int(le.Uint32(value[60:]))
	if bodyLen != len(value)-HeaderSize {
		return Block{}, damage(56, "body length is %d in the header and %d in fact", bodyLen, len(value)-HeaderSize)
	}
	if rawLen > maxRaw || restarts > rawLen/restartSize {
		return Block{}, damage(36, "sizes %d and %d are impossible", rawLen, restarts)
	}
	b := Block{Header: Header{
		First: le.Uint64(value[16:]), Prev: le.Uint64(value[24:]), Count: le.Uint32(value[32:]),
		FirstMs: int64(le.Uint64(value[40:])), LastMs: int64(le.Uint64(value[48:])),
	}, raw: value}
	if codec := Codec(value[13]); codec != None {
		raw, err := c.decompress(codec, value[HeaderSize:], rawLen)
		if err != nil {
			return Block{}, damage(HeaderSize, "%v", err)
		}
		copy(raw, value[:HeaderSize])
		b.raw = raw
	}
	if len(b.raw)-HeaderSize != rawLen {
		return Block{}, damage(36, "records take %d bytes, expected %d", len(b.raw)-HeaderSize, rawLen)
	}
	b.itemsEnd = len(b.raw) - restarts*restartSize
	return b, nil
}

// CheckVersion reports whether a value is an intact block of a later version,
// which is not damage.
func CheckVersion(value []byte) (v int, newer bool) {
	if len(value) < HeaderSize || binary.LittleEndian.Uint32(value[8:]) != magic {
		return 0, false
	}
	return int(value[12]), value[12] > versionIDs
}

func (b *Block) items() []byte { return b.raw[HeaderSize:b.itemsEnd] }

func (b *Block) restarts() int { return (len(b.raw) - b.itemsEnd) / restartSize }

func (b *Block) restart(i int) (index uint32, offset int, ms int64) {
	p := b.raw[b.itemsEnd+i*restartSize:]
	return binary.LittleEndian.Uint32(p), int(binary.LittleEndian.Uint32(p[4:])), int64(binary.LittleEndian.Uint64(p[8:]))
}

// Seek returns an iterator that stands before the record with the counter, or
// before the first record if the counter is lower, or at the end.
func (b *Block) Seek(counter uint64) (Iter, error) {
	it := b.start(func(index uint32, _ int64) bool { return b.First+uint64(index) <= counter })
	var item Item
	for it.next < b.End() && it.next < counter {
		if ok, err := it.Next(&item); !ok || err != nil {
			return it, err
		}
	}
	return it, nil
}

// SeekTime returns an iterator that stands before the first record that
// arrived at ms or later, or at the end.
func (b *Block) SeekTime(ms int64) (Iter, error) {
	it := b.start(func(_ uint32, at int64) bool { return at < ms })
	var item Item
	for {
		prev := it
		ok, err := it.Next(&item)
		if err != nil || !ok {
			return it, err
		}
		if item.Ms >= ms {
			return prev, nil
		}
	}
}

// start returns an iterator at the last restart point that satisfies before,
// which must hold for a prefix of the points; or at the beginning.
func (b *Block) start(before func(index uint32, ms int64) bool) Iter {
	it := Iter{data: b.items(), next: b.First, end: b.End(), ms: b.FirstMs, known: knownFlags(b.version())}
	n := sort.Search(b.restarts(), func(i int) bool {
		index, _, ms := b.restart(i)
		return !before(index, ms)
	})
	if n > 0 {
		index, offset, ms := b.restart(n - 1)
		if offset <= len(it.data) && index < b.Count {
			it.off, it.next, it.ms = offset, b.First+uint64(index), ms
		}
	}
	return it
}
