package redo

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog/internal/kv"
)

// A frame is a header and a body, and zeros up to the end of the page.
//
//	0   8  xxhash64 of what follows, up to the end of the body
//	8   4  frameMagic
//	12  4  generation: how often the ring was emptied
//	16  8  number of the frame
//	24  8  version of the batch in the store
//	32  4  number of changes
//	36  4  bytes of the body
//	40  8  the first bytes of the ring's ID
//	48     body
//
// The body is the changes, each a byte (0 set, 1 delete), uvarint length of
// the key, uvarint length of the value, key and value. With a key it is sealed
// by AES-256-GCM; the nonce is the generation and the number, and bytes 8 to 47 are
// authenticated.
const (
	frameHeader = 48
	tagSize     = 16
	maxOpHead   = 1 + 2*binary.MaxVarintLen32
	maxOps      = 1 << 20 // more than any batch has
)

// frameSize returns how many bytes a frame with a batch takes, at most.
func frameSize(b *kv.Batch) int {
	n := frameHeader + tagSize + len(b.Ops)*maxOpHead + b.Bytes
	return (n + Page - 1) &^ (Page - 1)
}

// head is the header of a frame.
type head struct {
	gen     uint32
	seq     uint64
	version uint64
}

// encodeFrame writes a frame with a batch to buf, which has room for it, and
// returns its bytes, whole pages.
func (r *Ring) encodeFrame(buf []byte, h head, b *kv.Batch) []byte {
	le := binary.LittleEndian
	body := buf[frameHeader:frameHeader]
	for i := range b.Ops {
		op := &b.Ops[i]
		kind := byte(0)
		if op.Delete {
			kind = 1
		}
		body = append(body, kind)
		body = binary.AppendUvarint(body, uint64(len(op.Key)))
		body = binary.AppendUvarint(body, uint64(len(op.Value)))
		body = append(body, op.Key...)
		body = append(body, op.Value...)
	}
	n := len(body)
	if r.aead != nil {
		n += tagSize
	}
	le.PutUint32(buf[8:], frameMagic)
	le.PutUint32(buf[12:], h.gen)
	le.PutUint64(buf[16:], h.seq)
	le.PutUint64(buf[24:], h.version)
	le.PutUint32(buf[32:], uint32(len(b.Ops)))
	le.PutUint32(buf[36:], uint32(n))
	copy(buf[40:48], r.opts.ID[:8])
	if r.aead != nil {
		r.aead.Seal(body[:0], nonce(h), body, buf[8:frameHeader])
	}
	end := frameHeader + n
	le.PutUint64(buf, xxhash.Sum64(buf[8:end]))
	whole := (end + Page - 1) &^ (Page - 1)
	clear(buf[end:whole])
	return buf[:whole]
}

func nonce(h head) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint32(b, h.gen)
	binary.BigEndian.PutUint64(b[4:], h.seq)
	return b
}

// errFrame says that bytes are no whole frame of the ring.
var errFrame = errors.New("no frame")

// frameLength reads the header at the beginning of b, a page or more, and returns
// the size of the frame in whole pages. The error is errFrame if it cannot be one
// of the ring.
func (r *Ring) frameLength(b []byte) (h head, size int, err error) {
	le := binary.LittleEndian
	body := le.Uint32(b[36:])
	if le.Uint32(b[8:]) != frameMagic || string(b[40:48]) != string(r.opts.ID[:8]) || body > MaxFrame-frameHeader {
		return h, 0, errFrame
	}
	h = head{gen: le.Uint32(b[12:]), seq: le.Uint64(b[16:]), version: le.Uint64(b[24:])}
	return h, (frameHeader + int(body) + Page - 1) &^ (Page - 1), nil
}

// sound reports whether b, of which the header makes sense, begins with a frame
// whose checksum is right.
func sound(b []byte) bool {
	le := binary.LittleEndian
	end := frameHeader + int(le.Uint32(b[36:]))
	return end <= len(b) && le.Uint64(b) == xxhash.Sum64(b[8:end])
}

// decodeFrame returns the batch of a sound frame. Its memory is b's, or new if the
// frame is sealed.
func (r *Ring) decodeFrame(b []byte, h head) ([]kv.Op, error) {
	le := binary.LittleEndian
	body := b[frameHeader:][:le.Uint32(b[36:])]
	if r.aead != nil {
		var err error
		if body, err = r.aead.Open(nil, nonce(h), body, b[8:frameHeader]); err != nil {
			return nil, fmt.Errorf("a frame cannot be decrypted: %w", err)
		}
	}
	return decodeOps(body, le.Uint32(b[32:]))
}

func decodeOps(b []byte, count uint32) ([]kv.Op, error) {
	if count > maxOps || int(count) > len(b)/3 {
		return nil, fmt.Errorf("a frame says %d changes, in %d bytes", count, len(b))
	}
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
