package logstore

import (
	"encoding/binary"
	"errors"

	"github.com/shardlog/shardlog/internal/block"
)

// The journal makes few records cheap: they are copied there, and stay in memory
// until a shard has enough of them for a block of decent size. docs/adr/0021 says why.
//
// An entry is a row of parts, each the records of one shard: the numbers of the shard, a
// length, and an encoded block; or, if the highest bit of the length is set, one in bare
// form. The frame that the entry is in has a checksum.
const (
	partHead = 12
	bareForm = 1 << 31
)

// appendPartHead appends what precedes the block of a part, of which the length says
// the form as well.
func appendPartHead(e []byte, id ID, length uint32) []byte {
	le := binary.LittleEndian
	e = le.AppendUint32(e, id.Stream)
	e = le.AppendUint32(e, id.Shard)
	return le.AppendUint32(e, length)
}

// appendEntry appends a part to an entry.
func appendEntry(e []byte, id ID, b *block.Block) []byte {
	return append(appendPartHead(e, id, uint32(b.Size())), b.Encoded(block.None)...)
}

// appendBareHead appends what precedes the records of an addition, and returns these.
func appendBareHead(e []byte, id ID, a *block.Addition) (head, records []byte) {
	e = appendPartHead(e, id, uint32(block.BareHead+a.Len())|bareForm)
	return a.AppendBare(e)
}

// journalPart is one part as read back.
type journalPart struct {
	id ID
	b  block.Block
}

// decodeEntry returns the parts of an entry, which may keep its memory. With an error it
// returns those that are intact; of those in bare form that is only known if the entry is.
func decodeEntry(e []byte) (parts []journalPart, err error) {
	le := binary.LittleEndian
	for len(e) > 0 {
		if len(e) < partHead {
			return parts, errors.New("a part is cut short")
		}
		id, size := ID{le.Uint32(e), le.Uint32(e[4:])}, le.Uint32(e[8:])
		decode := block.Decode
		if size&bareForm != 0 {
			size, decode = size&^bareForm, block.DecodeBare
		}
		e = e[partHead:]
		if uint64(size) > uint64(len(e)) {
			return parts, errors.New("a part runs over the end")
		}
		b, berr := decode(e[:size:size])
		e = e[size:]
		if berr != nil {
			err = berr
			continue
		}
		parts = append(parts, journalPart{id: id, b: b})
	}
	return parts, err
}
