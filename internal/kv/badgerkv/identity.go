package badgerkv

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// redoKey is where the ring's ID and key are in the store. It begins as the keys
// of filler, which are the store's own as well.
var redoKey = []byte{FillerPrefix, 'r'}

const redoSecret = 32 // bytes of the key of the ring

// identity is what is stored under redoKey: which ring the store has, and with which key
// it is sealed, by the ring's generation. There are two keys while the ring is begun
// again.
type identity struct {
	id      redo.ID
	secrets map[uint32][]byte // none where the store is not encrypted
}

func newIdentity() identity {
	var i identity
	rand.Read(i.id[:])
	return i
}

// next returns i with the key of a generation, and another for the one that follows.
func (i identity) next(gen uint32, encrypted bool) identity {
	n := identity{id: i.id, secrets: map[uint32][]byte{}}
	if s := i.secrets[gen]; s != nil {
		n.secrets[gen] = s
	}
	if encrypted {
		n.secrets[gen+1] = make([]byte, redoSecret)
		rand.Read(n.secrets[gen+1])
	}
	return n
}

// key returns the key of a generation, nil for none.
func (i identity) key(gen uint32) []byte { return i.secrets[gen] }

func (i identity) encode() []byte {
	b := slices.Clone(i.id[:])
	for _, gen := range slices.Sorted(maps.Keys(i.secrets)) {
		b = binary.BigEndian.AppendUint32(b, gen)
		b = append(b, i.secrets[gen]...)
	}
	return b
}

func decodeIdentity(b []byte) (i identity, err error) {
	const each = 4 + redoSecret
	if len(b) < len(i.id) || (len(b)-len(i.id))%each != 0 {
		return i, fmt.Errorf("%w: the identity of the redo log has %d bytes", shardlog.ErrCorrupt, len(b))
	}
	i.secrets = map[uint32][]byte{}
	for b = b[copy(i.id[:], b):]; len(b) > 0; b = b[each:] {
		i.secrets[binary.BigEndian.Uint32(b)] = slices.Clone(b[4:each])
	}
	return i, nil
}
