package block

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// zstdCodec is made once, on first use: an encoder and a decoder keep tables
// of megabytes, and their EncodeAll and DecodeAll are safe for concurrent use.
var zstdCodec = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic(err) // the options are constants
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw))
	if err != nil {
		panic(err)
	}
	return enc, dec
})

// compress returns HeaderSize free bytes and the compressed body.
func compress(codec Codec, body []byte) []byte {
	if codec == Zstd {
		enc, _ := zstdCodec()
		return enc.EncodeAll(body, make([]byte, HeaderSize, HeaderSize+len(body)))
	}
	// With room for the worst case, Encode writes into the buffer it is given.
	out := make([]byte, HeaderSize+s2.MaxEncodedLen(len(body)))
	return out[:HeaderSize+len(s2.Encode(out[HeaderSize:], body))]
}

// decompress returns HeaderSize free bytes and rawLen bytes of records.
func decompress(codec Codec, body []byte, rawLen int) ([]byte, error) {
	switch codec {
	case S2:
		n, err := s2.DecodedLen(body)
		if err != nil {
			return nil, err
		}
		if n != rawLen {
			return nil, fmt.Errorf("s2 body decodes to %d bytes, expected %d", n, rawLen)
		}
		raw := make([]byte, HeaderSize+rawLen)
		_, err = s2.Decode(raw[HeaderSize:], body)
		return raw, err
	case Zstd:
		_, dec := zstdCodec()
		return dec.DecodeAll(body, make([]byte, HeaderSize, HeaderSize+rawLen))
	}
	return nil, fmt.Errorf("codec %d is not known", codec)
}
