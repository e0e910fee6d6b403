package logstore

import (
	"encoding/binary"
	"errors"

	"github.com/shardlog/shardlog/internal/block"
)

// The journal makes few records cheap: they are copied there, and stay in memory
// until a shard has enough of them for a block of decent size. docs/adr/0021 says why.
//
// An entry is a run of parts, each the records of one shard: the numbers of the shard, a
// length, and an encoded block.
const partHead = 12

// appendPartHead appends what precedes the block of a part.
func appendPartHead(e []byte, id ID, b *block.Block) []byte {
	le := binary.LittleEndian
	e = le.AppendUint32(e, id.Stream)
	e = le.AppendUint32(e, id.Shard)
	return le.AppendUint32(e, uint32(b.Size()))
}

// appendEntry appends a part to an entry.
func appendEntry(e []byte, id ID, b *block.Block) []byte {
	return append(appendPartHead(e, id, b), b.Encoded(block.None)...)
}

// journalPart is one part as read back.
type journalPart struct {
	id ID
	b  block.Block
}

// decodeEntry returns the parts of an entry, which keep its memory. With an error it
// returns those that are intact.
func decodeEntry(e []byte) (parts []journalPart, err error) {
	le := binary.LittleEndian
	for len(e) > 0 {
		if len(e) < partHead {
			return parts, errors.New("a part is cut short")
		}
		id, size := ID{le.Uint32(e), le.Uint32(e[4:])}, le.Uint32(e[8:])
		e = e[partHead:]
		if uint64(size) > uint64(len(e)) {
			return parts, errors.New("a part runs over the end")
		}
		b, berr := block.Decode(e[:size:size])
		e = e[size:]
		if berr != nil {
			err = berr
			continue
		}
		parts = append(parts, journalPart{id: id, b: b})
	}
	return parts, err
}
