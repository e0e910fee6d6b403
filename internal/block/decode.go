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
func (c *Coder) Decode(value []byte) (Block, error) { return c.decode(value, nil, true) }

// DecodeOver is Decode for a reader that has one block at a time: a block that
// was compressed is decompressed into buf, which grows as it has to, so that
// the block is valid until buf is used again.
func (c *Coder) DecodeOver(value []byte, buf *[]byte) (Block, error) {
	return c.decode(value, buf, true)
}

// DecodeTrusted is Decode without the checksum, for a value whose checksum was
// verified before. Bytes that were damaged since then give other records, or a
// *DamageError from here or from the block's iterators, and nothing worse: no
// panic, and no reading outside of value. A compressed value is verified
// anyway, because that costs little compared with decompressing.
func (c *Coder) DecodeTrusted(value []byte) (Block, error) {
	return c.decode(value, nil, Compressed(value))
}

// Compressed reports whether a value is an encoded block whose records have
// other memory than the value once it is decoded.
func Compressed(value []byte) bool { return len(value) >= HeaderSize && Codec(value[13]) != None }

func (c *Coder) decode(value []byte, buf *[]byte, verify bool) (Block, error) {
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
	if verify {
		if got, want := xxhash.Sum64(value[8:]), le.Uint64(value); got != want {
			return Block{}, damage(0, "checksum is %#x, expected %#x", got, want)
		}
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
		raw, err := c.decompress(codec, value[HeaderSize:], buf, rawLen)
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
