package redo

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog/internal/kv"
)

// A frame is a header and a body, and zeros up to the end of its last unit.
//
//	0   8  xxhash64 of what follows, up to the end of the body, xor the first
//	       bytes of the ring's ID
//	8   4  frameMagic
//	12  4  generation: how often the ring was begun again
//	16  8  number of the frame
//	24  8  version of the batch in the store; 0 for an entry alone
//	32  4  bytes of the body
//	36  4  bytes of the entry
//	40  4  which attempt to begin the generation it is of, a random number
//	44     body
//
// The body is the entry and then, if there are any, the changes: their number and
// each as a byte (0 set, 1 delete), length of the key, length of the value, key and
// value. Numbers and lengths are uvarints. With a key the body is sealed by
// AES-256-GCM; the nonce is the generation and the number, and bytes 8 to 43 are
// authenticated.
const (
	frameHeader = 44
	tagSize     = 16
	maxOpHead   = 1 + 2*binary.MaxVarintLen32
	maxOps      = 1 << 20 // more than any batch has
)

// magicAt is where frameMagic is in a frame.
const magicAt = 8

var frameMagicBytes = binary.LittleEndian.AppendUint32(nil, frameMagic)

// frameBytes returns how many bytes a frame takes, at most.
func frameBytes(entry int, ops []kv.Op, opBytes int) int {
	n := frameHeader + tagSize + entry
	if len(ops) > 0 {
		n += binary.MaxVarintLen32 + len(ops)*maxOpHead + opBytes
	}
	return n
}

// entryFrame returns how many bytes the frame of an entry takes.
func entryFrame(n int, sealed bool) int {
	if sealed {
		n += tagSize
	}
	return frameHeader + n
}

// batchBytes returns how many bytes the frame of a batch takes, at most.
func batchBytes(b *kv.Batch) int { return frameBytes(len(b.Entry), b.Ops, b.Bytes) }

// head is the header of a frame, but for lengths and checksum.
type head struct {
	gen     uint32
	attempt uint32
	seq     uint64
	version uint64
}

// is reports whether it is the frame of a state with a number.
func (h *head) is(s *state, seq uint64) bool {
	return h.gen == s.gen && h.attempt == s.attempt && h.seq == seq
}

// encode writes a frame to buf, which has room for it and what is up to the end of
// its last unit, and returns its bytes, whole units. The checksum is written last.
func (r *Ring) encode(buf []byte, h head, ops []kv.Op, entry ...[]byte) []byte {
	body := buf[frameHeader:frameHeader]
	for _, p := range entry {
		body = append(body, p...)
	}
	entryBytes := len(body)
	if len(ops) > 0 {
		body = encodeOps(body, ops)
	}
	n := len(body)
	if r.aead != nil {
		n += tagSize
	}
	le := binary.LittleEndian
	le.PutUint32(buf[8:], frameMagic)
	le.PutUint32(buf[12:], h.gen)
	le.PutUint64(buf[16:], h.seq)
	le.PutUint64(buf[24:], h.version)
	le.PutUint32(buf[32:], uint32(n))
	le.PutUint32(buf[36:], uint32(entryBytes))
	le.PutUint32(buf[40:], h.attempt)
	if r.aead != nil {
		r.aead.Seal(body[:0], nonce(h), body, buf[8:frameHeader])
	}
	end := frameHeader + n
	whole := roundUp(end, r.unit)
	clear(buf[end:whole])
	le.PutUint64(buf, r.sum(buf[8:end]))
	return buf[:whole]
}

func encodeOps(b []byte, ops []kv.Op) []byte {
	b = binary.AppendUvarint(b, uint64(len(ops)))
	for i := range ops {
		op := &ops[i]
		kind := byte(0)
		if op.Delete {
			kind = 1
		}
		b = append(b, kind)
		b = binary.AppendUvarint(b, uint64(len(op.Key)))
		b = binary.AppendUvarint(b, uint64(len(op.Value)))
		b = append(b, op.Key...)
		b = append(b, op.Value...)
	}
	return b
}

// roundUp returns the multiple of a unit that holds n bytes.
func roundUp(n int, unit int64) int { return (n + int(unit) - 1) &^ (int(unit) - 1) }

// sum returns the checksum of a frame.
func (r *Ring) sum(b []byte) uint64 {
	return xxhash.Sum64(b) ^ binary.LittleEndian.Uint64(r.opts.ID[:])
}

func nonce(h head) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint32(b, h.gen)
	binary.BigEndian.PutUint64(b[4:], h.seq)
	return b
}

// errFrame says that bytes are no whole frame of the ring.
var errFrame = errors.New("no frame")

// decodeHead reads the header at the beginning of b, and returns the bytes of the
// frame without those up to the end of its last unit. The error is errFrame if it
// cannot be one.
func decodeHead(b []byte) (h head, size int, err error) {
	le := binary.LittleEndian
	body, entry := le.Uint32(b[32:]), le.Uint32(b[36:])
	if le.Uint32(b[8:]) != frameMagic || body > MaxFrame-frameHeader || entry > body {
		return h, 0, errFrame
	}
	h = head{gen: le.Uint32(b[12:]), attempt: le.Uint32(b[40:]), seq: le.Uint64(b[16:]), version: le.Uint64(b[24:])}
	return h, frameHeader + int(body), nil
}

// decode returns entry and changes of a frame whose checksum is right. Their memory
// is b's, or new if the frame is sealed.
func (r *Ring) decode(b []byte, h head) (entry []byte, ops []kv.Op, err error) {
	body, n := b[frameHeader:], binary.LittleEndian.Uint32(b[36:])
	if r.aead != nil {
		if body, err = r.aead.Open(nil, nonce(h), body, b[8:frameHeader]); err != nil {
			return nil, nil, fmt.Errorf("a frame cannot be decrypted: %w", err)
		}
	}
	if int64(n) > int64(len(body)) {
		return nil, nil, fmt.Errorf("a frame says that its entry has %d bytes, of %d", n, len(body))
	}
	if n > 0 {
		entry = body[:n:n]
	}
	if body = body[n:]; len(body) > 0 {
		ops, err = decodeOps(body)
	}
	return entry, ops, err
}

func decodeOps(b []byte) ([]kv.Op, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > maxOps || int(count) > len(b)/3 {
		return nil, fmt.Errorf("a frame says %d changes, in %d bytes", count, len(b))
	}
	b = b[n:]
	ops := make([]kv.Op, count)
	for i := range ops {
		if len(b) == 0 || b[0] > 1 {
			return nil, fmt.Errorf("change %d makes no sense", i)
		}
		op := kv.Op{Delete: b[0] == 1}
		klen, n := binary.Uvarint(b[1:])
		if n <= 0 {
			return nil, fmt.Errorf("change %d makes no sense", i)
		}
		b = b[1+n:]
		vlen, n := binary.Uvarint(b)
		if n <= 0 || klen > uint64(len(b)-n) || vlen > uint64(len(b)-n)-klen {
			return nil, fmt.Errorf("change %d makes no sense", i)
		}
		b = b[n:]
		op.Key, op.Value, b = b[:klen:klen], b[klen:klen+vlen:klen+vlen], b[klen+vlen:]
		if op.Delete {
			op.Value = nil
		}
		ops[i] = op
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last change", len(b))
	}
	return ops, nil
}
