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
	// maxRaw is the largest uncompressed size that a reader accepts, so that a
	// damaged header cannot make it allocate without limit: the largest record
	// with its key and headers, many times over.
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
// One that Extend returned is not whole: it can be read, and Merge makes one of
// it that can be stored.
type Block struct {
	Header
	version  byte
	raw      []byte // room for the header, records; of a whole block all that is stored
	itemsEnd int    // where the records end in raw
	table    []byte // restart points: of a whole block the end of raw
}

// HasIDs reports whether some records of b may have a dedup ID.
func (b *Block) HasIDs() bool { return b.version >= versionIDs }

// Size returns the bytes of b when it is whole and not compressed.
func (b *Block) Size() int { return b.itemsEnd + len(b.table) }

// Memory returns the bytes of memory that b keeps.
func (b *Block) Memory() int {
	if len(b.raw) > b.itemsEnd {
		return cap(b.raw)
	}
	return cap(b.raw) + cap(b.table)
}

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
func (b *Block) Encoded(codec Codec) []byte {
	if codec == None {
		return b.raw
	}
	return new(Coder).Encode(b, codec)
}

func (b *Block) items() []byte { return b.raw[HeaderSize:b.itemsEnd:b.itemsEnd] }
