package logstore

import (
	"encoding/binary"
	"fmt"
)

// Key prefixes of the log; docs/FORMAT.md lists all that are in use.
const (
	prefixBlock   = 'b'
	prefixHorizon = 'h'
	prefixJournal = 'j'
)

// ID names a shard inside a database. Stream numbers are never used twice.
type ID struct {
	Stream, Shard uint32
}

// String returns the two numbers, for logs.
func (id ID) String() string { return fmt.Sprintf("%d/%d", id.Stream, id.Shard) }

const (
	idKeySize    = 1 + 4 + 4
	blockKeySize = idKeySize + 8 + 4 + 8 + 8
)

func appendID(k []byte, prefix byte, id ID) []byte {
	k = append(k, prefix)
	k = binary.BigEndian.AppendUint32(k, id.Stream)
	return binary.BigEndian.AppendUint32(k, id.Shard)
}

func horizonKey(id ID) []byte { return appendID(make([]byte, 0, idKeySize), prefixHorizon, id) }

// blockKey holds all that the index needs, so that opening a database reads
// keys only.
func blockKey(id ID, e *blockRef) []byte {
	return appendBlockKey(make([]byte, 0, blockKeySize), id, e)
}

func appendBlockKey(k []byte, id ID, e *blockRef) []byte {
	k = appendID(k, prefixBlock, id)
	k = binary.BigEndian.AppendUint64(k, e.first)
	k = binary.BigEndian.AppendUint32(k, e.count)
	k = binary.BigEndian.AppendUint64(k, uint64(e.firstMs))
	return binary.BigEndian.AppendUint64(k, uint64(e.lastMs))
}

// parseBlockKey is the reverse of blockKey; ok is false for any other key.
func parseBlockKey(k []byte) (id ID, e blockRef, ok bool) {
	if len(k) != blockKeySize || k[0] != prefixBlock {
		return id, e, false
	}
	be := binary.BigEndian
	id = ID{be.Uint32(k[1:]), be.Uint32(k[5:])}
	e = blockRef{first: be.Uint64(k[9:]), count: be.Uint32(k[17:]), firstMs: int64(be.Uint64(k[21:])), lastMs: int64(be.Uint64(k[29:]))}
	// A block holds a record, and its counters stay in their range.
	return id, e, e.count > 0 && e.first > 0 && e.first+uint64(e.count) > e.first
}

func parseHorizonKey(k []byte) (id ID, ok bool) {
	if len(k) != idKeySize || k[0] != prefixHorizon {
		return id, false
	}
	return ID{binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint32(k[5:])}, true
}

func slotKey(slot uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{prefixJournal}, slot)
}

func parseSlotKey(k []byte) (slot uint32, ok bool) {
	if len(k) != 5 || k[0] != prefixJournal {
		return 0, false
	}
	return binary.BigEndian.Uint32(k[1:]), true
}

// blockRef is one stored block in the index of a shard.
type blockRef struct {
	first           uint64
	ord             uint64 // records of the shard before this block, since it was opened
	firstMs, lastMs int64
	count           uint32
	size            uint32 // stored bytes
}

func (e *blockRef) end() uint64 { return e.first + uint64(e.count) }
