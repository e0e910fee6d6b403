package block

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Coder encodes and decodes blocks. It keeps what the compressions need from
// one block to the next, made when it is first needed: for zstd, tables of
// megabytes. Its zero value is ready, and it is safe for concurrent use.
type Coder struct {
	once sync.Once
	enc  *zstd.Encoder
	dec  *zstd.Decoder
}

func (c *Coder) init() {
	c.once.Do(func() {
		var err1, err2 error
		c.enc, err1 = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		c.dec, err2 = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw))
		if err := errors.Join(err1, err2); err != nil {
			panic(err) // the options are constants
		}
	})
}

// compress returns HeaderSize free bytes and the compressed body.
func (c *Coder) compress(codec Codec, body []byte) []byte {
	if codec == Zstd {
		c.init()
		return c.enc.EncodeAll(body, make([]byte, HeaderSize, HeaderSize+len(body)))
	}
	// With room for the worst case, Encode writes into the buffer it is given.
	out := make([]byte, HeaderSize+s2.MaxEncodedLen(len(body)))
	return out[:HeaderSize+len(s2.Encode(out[HeaderSize:], body))]
}

// decompress returns HeaderSize free bytes and rawLen bytes of records, in the
// memory of buf if there is one.
func (c *Coder) decompress(codec Codec, body []byte, buf *[]byte, rawLen int) (raw []byte, err error) {
	switch codec {
	case S2:
		n, err := s2.DecodedLen(body)
		if err != nil {
			return nil, err
		}
		if n != rawLen {
			return nil, fmt.Errorf("s2 body decodes to %d bytes, expected %d", n, rawLen)
		}
		raw = sized(buf, HeaderSize+rawLen)
		if _, err := s2.Decode(raw[HeaderSize:], body); err != nil {
			return nil, err
		}
	case Zstd:
		c.init()
		if raw, err = c.dec.DecodeAll(body, sized(buf, HeaderSize+rawLen)[:HeaderSize]); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("codec %d is not known", codec)
	}
	if buf != nil {
		*buf = raw
	}
	return raw, nil
}

// sized returns n bytes, those of buf if they are enough.
func sized(buf *[]byte, n int) []byte {
	if buf != nil && cap(*buf) >= n {
		return (*buf)[:n]
	}
	return make([]byte, n)
}
