package block

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Encode returns the bytes to store of a whole block: compressed if codec makes
// them smaller. Without compression it is b's own memory.
func (c *Coder) Encode(b *Block, codec Codec) []byte {
	if codec == None {
		return b.raw
	}
	body := b.raw[HeaderSize:]
	out := c.compress(codec, body)
	if len(out) >= len(b.raw) {
		return b.raw
	}
	putHeader(out, &b.Header, b.version, codec, len(body), b.restarts())
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
	}, version: value[12], raw: value}
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
	b.table = b.raw[b.itemsEnd:]
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
