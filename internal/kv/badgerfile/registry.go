package badgerfile

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
	"os"

	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// Keys are the data keys of a database, by number. Number 0 is no encryption.
type Keys map[uint64][]byte

// Has reports whether files with the data key can be read.
func (k Keys) Has(id uint64) bool { return id == 0 || k[id] != nil }

// ErrKey: the encryption key is not the one of the registry.
var ErrKey = errors.New("the encryption key is not that of the database")

const (
	registryText   = "Hello Badger"
	registryHeader = 16 + len(registryText) // an IV comes first
)

// ReadRegistry reads the registry of data keys, which key encrypts; nil means
// that it is not encrypted. The error is ErrKey, a *shardlog.DamageError or
// that of the file system.
func ReadRegistry(path string, key []byte) (Keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < registryHeader {
		return nil, damage(path, int64(len(b)), "it ends inside its header")
	}
	iv, text := b[:16], b[16:registryHeader]
	if key != nil {
		if text, err = y.XORBlockAllocate(text, key, iv); err != nil {
			return nil, err
		}
	}
	if string(text) != registryText {
		// With a wrong key the text is random; if only a few bits are wrong, or
		// all are zero, it is damaged.
		if differing(string(text)) <= 24 || allZero(b[16:registryHeader]) {
			return nil, damage(path, 16, "its header is not %q", registryText)
		}
		return nil, ErrKey
	}
	keys := Keys{}
	for at := registryHeader; at < len(b); {
		rest := b[at:]
		if len(rest) < 8 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-8) {
			return nil, damage(path, int64(at), "it ends inside a data key")
		}
		body := rest[8 : 8+binary.BigEndian.Uint32(rest)]
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(rest[4:]) {
			return nil, damage(path, int64(at), "a data key fails its checksum")
		}
		var dk pb.DataKey
		if err := proto.Unmarshal(body, &dk); err != nil {
			return nil, damage(path, int64(at), "a data key cannot be decoded: %v", err)
		}
		if dk.KeyId == 0 || len(dk.Iv) != 16 && key != nil {
			return nil, damage(path, int64(at), "the data key there has neither a number nor an IV")
		}
		data := dk.Data
		if key != nil {
			if data, err = y.XORBlockAllocate(data, key, dk.Iv); err != nil {
				return nil, damage(path, int64(at), "a data key cannot be decrypted: %v", err)
			}
		}
		keys[dk.KeyId] = data
		at += 8 + len(body)
	}
	return keys, nil
}

// differing counts the bits in which text is not the registry's.
func differing(text string) (n int) {
	for i := range len(text) {
		n += bits.OnesCount8(text[i] ^ registryText[i])
	}
	return n
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
