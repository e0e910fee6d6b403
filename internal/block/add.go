package block

import (
	"encoding/binary"

	"github.com/shardlog/shardlog"
)

// Addition is a row of records that is added to a block in place, as Grow does, but
// encoded there. Until its end nobody may see them; Undo takes them back. The zero
// value is not ready: use Add.
type Addition struct {
	b       *Block
	was     Extent
	first   int // where its records begin in the memory of b
	restart int // where the next restart point is due
}

// Add begins an addition of records that arrive at ms, Unix milliseconds. It is not
// ok, and nothing was done, if that is before the last one of b, or there is no room.
func (b *Block) Add(ms int64) (a Addition, ok bool) {
	if ms < b.LastMs || cap(b.raw)-len(b.raw) < markerSize {
		return a, false
	}
	a = Addition{b: b, was: b.Extent(), restart: HeaderSize + restartSpacing}
	if n := b.restarts(); n > 0 {
		_, last, _ := b.restart(n - 1)
		a.restart += last
	}
	if ms != b.LastMs {
		b.raw = append(b.raw, flagMarker)
		b.raw = binary.LittleEndian.AppendUint64(b.raw, uint64(ms))
		b.LastMs = ms
	}
	a.first = len(b.raw)
	return a, true
}

// Record adds a record, whose bytes are copied. False means that the memory is not
// enough for the most that it can take (EncodedSize), and it was not added.
func (a *Addition) Record(r *shardlog.Record) bool {
	if !a.room(EncodedSize(r)) {
		return false
	}
	b := a.b
	b.raw = appendRecord(b.raw, r)
	if r.DedupID != "" {
		b.version = versionIDs
	}
	a.added()
	return true
}

// Encoded is Record for a record that is encoded already.
func (a *Addition) Encoded(it *Encoded) bool {
	if !a.room(len(it.Bytes)) {
		return false
	}
	a.b.raw = append(a.b.raw, it.Bytes...)
	a.added()
	return true
}

// room reports whether there is memory for a record of n bytes, and notes a restart
// point if one is due before it.
func (a *Addition) room(n int) bool {
	b := a.b
	if cap(b.raw)-len(b.raw) < n {
		return false
	}
	if len(b.raw) < a.restart {
		return true
	}
	if cap(b.table)-len(b.table) < restartSize {
		return false
	}
	b.table = appendRestart(b.table, b.Count, len(b.raw)-HeaderSize, b.LastMs)
	a.restart = len(b.raw) + restartSpacing
	return true
}

func (a *Addition) added() {
	a.b.Count++
	a.b.itemsEnd = len(a.b.raw)
}

// Undo takes back all that was added.
func (a *Addition) Undo() { *a.b = a.b.Upto(a.was) }

// Len returns the bytes of the records so far.
func (a *Addition) Len() int { return len(a.b.raw) - a.first }

// Grown returns by how many bytes of records the block has grown.
func (a *Addition) Grown() int { return len(a.b.raw) - HeaderSize - int(a.was.Records) }

// End returns the counter after that of the last record.
func (a *Addition) End() uint64 { return a.b.End() }

// Added returns a block of the records, which is only good for what its header and its
// lengths say: it has no restart points.
func (a *Addition) Added() Block {
	b := a.b
	at := a.first - HeaderSize
	h := Header{First: b.First + uint64(a.was.Count), Count: b.Count - a.was.Count, FirstMs: b.LastMs, LastMs: b.LastMs}
	h.Prev = h.First - 1
	return Block{Header: h, version: b.version, raw: b.raw[at:], itemsEnd: len(b.raw) - at}
}
