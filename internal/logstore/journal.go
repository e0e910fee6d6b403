package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog/internal/block"
)

// The journal makes small groups cheap. A group of a few records for several
// shards is stored as one value, and the records stay in memory until a shard
// has enough of them for a block of decent size. Journal values live in
// numbered slots; a slot is overwritten once all of its records are in blocks,
// so nothing needs deleting, and the number of slots bounds what is read at
// open. docs/adr/0002 says why.

const (
	journalHeader     = 32
	journalPartHeader = 12
	journalMagic      = 0x314a4c53 // "SLJ1"
	journalVersion    = 1
)

// encodeJournal encodes parts of a group.
func encodeJournal(group uint64, parts []*part) []byte {
	n := journalHeader
	for _, p := range parts {
		n += journalPartHeader + p.block.Size()
	}
	le := binary.LittleEndian
	v := make([]byte, journalHeader, n)
	le.PutUint32(v[8:], journalMagic)
	v[12] = journalVersion
	le.PutUint64(v[16:], group)
	le.PutUint32(v[24:], uint32(len(parts)))
	for _, p := range parts {
		enc := p.block.Encoded(block.None)
		v = le.AppendUint32(v, p.shard.id.Stream)
		v = le.AppendUint32(v, p.shard.id.Shard)
		v = le.AppendUint32(v, uint32(len(enc)))
		v = append(v, enc...)
	}
	sum, _ := partsSum(v)
	le.PutUint32(v[28:], sum)
	le.PutUint64(v, xxhash.Sum64(v[8:]))
	return v
}

// partsSum covers what no block's checksum does: whose parts a value has. Ok
// is false if they do not fit into it.
func partsSum(v []byte) (sum uint32, ok bool) {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(v[8:28]) // never fails
	rest := v[journalHeader:]
	for range binary.LittleEndian.Uint32(v[24:]) {
		if len(rest) < journalPartHeader {
			return 0, false
		}
		size := uint64(binary.LittleEndian.Uint32(rest[8:]))
		_, _ = d.Write(rest[:journalPartHeader])
		if rest = rest[journalPartHeader:]; size > uint64(len(rest)) {
			return 0, false
		}
		rest = rest[size:]
	}
	return uint32(d.Sum64()), true
}

// journalPart is one part as read back.
type journalPart struct {
	id ID
	b  block.Block
}

// decodeJournal is the reverse of encodeJournal. The blocks keep v. With an
// error it returns those parts that are intact.
func decodeJournal(v []byte) (group uint64, parts []journalPart, err error) {
	le := binary.LittleEndian
	switch {
	case len(v) < journalHeader:
		return 0, nil, errors.New("journal value shorter than its header")
	case le.Uint32(v[8:]) != journalMagic:
		return 0, nil, errors.New("journal value without its magic number")
	case v[12] != journalVersion:
		return 0, nil, fmt.Errorf("journal version %d is not known", v[12])
	}
	group, n := le.Uint64(v[16:]), le.Uint32(v[24:])
	if le.Uint64(v) != xxhash.Sum64(v[8:]) {
		// The blocks have checksums of their own: what is intact is used, if
		// it is sure whose it is.
		err = errors.New("journal value fails its checksum")
		if sum, ok := partsSum(v); !ok || sum != le.Uint32(v[28:]) {
			return group, nil, err
		}
	}
	rest := v[journalHeader:]
	for range n {
		if len(rest) < journalPartHeader {
			return group, parts, errors.New("journal part cut short")
		}
		id, size := ID{le.Uint32(rest), le.Uint32(rest[4:])}, le.Uint32(rest[8:])
		rest = rest[journalPartHeader:]
		if uint64(size) > uint64(len(rest)) {
			return group, parts, errors.New("journal part runs over the end")
		}
		b, berr := block.Decode(rest[:size:size])
		rest = rest[size:]
		if berr != nil {
			err = berr
			continue
		}
		parts = append(parts, journalPart{id: id, b: b})
	}
	if len(rest) != 0 {
		err = fmt.Errorf("%d bytes follow the journal's parts", len(rest))
	}
	return group, parts, err
}
