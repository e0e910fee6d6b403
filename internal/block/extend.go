package block

import (
	"encoding/binary"
	"slices"
)

// Extend returns a block of the records of b, which is zero or was returned by
// Extend or From, and those of o, which follow them without a gap. It costs a
// copy of o's records, because the result shares the memory of b: what that has
// behind b's end is written over. So only the longest extension of a block that
// anybody uses can be extended, by one goroutine at a time. Those before it stay
// as they are, because bytes that they have are never written again.
func (b *Block) Extend(o *Block) Block {
	x := *b
	if b.IsZero() {
		x = begin(o, HeaderSize+o.Len()+min(max(o.Len(), growLeast), growMost))
	}
	x.extend(o)
	return x
}

// Start is Extend of the zero Block, with room for more records in the memory of the
// result: bytes of them, and their restart points.
func Start(o *Block, room int) Block {
	points := room/restartSpacing + 2
	x := begin(o, HeaderSize+room+points*restartSize)
	x.table = make([]byte, 0, points*restartSize)
	x.extend(o)
	return x
}

// begin returns a block without records that o's may be added to, in memory of
// a size.
func begin(o *Block, size int) Block {
	x := Block{Header: o.Header, raw: make([]byte, HeaderSize, size), itemsEnd: HeaderSize}
	x.Count, x.LastMs = 0, o.FirstMs
	return x
}

// extend adds the records of o.
func (b *Block) extend(o *Block) {
	marked := o.FirstMs != b.LastMs
	n := o.Len()
	if marked {
		n += markerSize
	}
	b.raw = reserve(b.raw, n)
	if marked {
		b.raw = append(b.raw, flagMarker)
		b.raw = binary.LittleEndian.AppendUint64(b.raw, uint64(o.FirstMs))
	}
	b.addRestarts(o)
	b.raw = append(b.raw, o.items()...)
	b.itemsEnd = len(b.raw)
	b.version = max(b.version, o.version)
	b.Count += o.Count
	b.LastMs = o.LastMs
}

// reserve makes room for n more bytes, and for as much as there is, so that a
// block that grows is copied about once in all; but for no more than growMost.
func reserve(p []byte, n int) []byte {
	if cap(p)-len(p) >= n {
		return p
	}
	return append(make([]byte, 0, len(p)+n+min(max(cap(p), growLeast), growMost)), p...)
}

// What a block that grows is given in addition to what it needs now. Those of the
// log end between 64 and 72 KiB, and most of them have half of that when they
// come to need more than 32 KiB.
const (
	growLeast = 256
	growMost  = 32 << 10
)

// Reserve returns b in memory in which it can grow by as much as it has, within
// bounds, if it cannot grow by half of that. B was returned by Extend or From.
func (b *Block) Reserve() Block {
	x := *b
	more := min(max(b.Len(), growLeast), growMost)
	points := more/restartSpacing + 1
	if cap(b.raw)-len(b.raw) < more/2 {
		x.raw = append(make([]byte, 0, len(b.raw)+more), b.raw...)
	}
	if cap(b.table)-len(b.table) < points*restartSize/2 {
		x.table = append(make([]byte, 0, len(b.table)+points*restartSize), b.table...)
	}
	return x
}

// Grow is Extend in place; false means that the memory of b is not enough, and
// nothing was done. Those who have an extension of b, or b as it was, are not
// affected, and find by Upto what was added.
func (b *Block) Grow(o *Block) bool {
	points := o.restarts()
	if b.restartDue() {
		points++
	}
	if cap(b.raw)-len(b.raw) < markerSize+o.Len() || cap(b.table)-len(b.table) < points*restartSize {
		return false
	}
	b.extend(o)
	return true
}

// Extent is how far a block that grows reaches.
type Extent struct {
	LastMs  int64
	Count   uint32
	Records uint32 // Len
	Points  uint16 // restart points
	Version uint8
}

// Extent returns how far b reaches.
func (b *Block) Extent() Extent {
	return Extent{LastMs: b.LastMs, Count: b.Count, Records: uint32(b.Len()), Points: uint16(b.restarts()), Version: b.version}
}

// Upto returns what b has grown to in place, up to an extent that it had.
func (b *Block) Upto(e Extent) Block {
	x := *b
	x.LastMs, x.Count, x.version = e.LastMs, e.Count, e.Version
	x.itemsEnd = HeaderSize + int(e.Records)
	x.raw = b.raw[:x.itemsEnd]
	x.table = b.table[:int(e.Points)*restartSize]
	return x
}

// addRestarts adds the restart points of o, whose records are about to follow,
// and one where they begin if it is due.
func (b *Block) addRestarts(o *Block) {
	base := len(b.raw) - HeaderSize
	if b.restartDue() {
		b.table = appendRestart(b.table, b.Count, base, o.FirstMs)
	}
	for i := range o.restarts() {
		index, off, ms := o.restart(i)
		b.table = appendRestart(b.table, b.Count+index, base+off, ms)
	}
}

// restartDue reports whether there should be a restart point where b ends.
func (b *Block) restartDue() bool {
	last := 0
	if n := b.restarts(); n > 0 {
		_, last, _ = b.restart(n - 1)
	}
	return b.Len()-last >= restartSpacing
}

func appendRestart(table []byte, index uint32, off int, ms int64) []byte {
	table = binary.LittleEndian.AppendUint32(table, index)
	table = binary.LittleEndian.AppendUint32(table, uint32(off))
	return binary.LittleEndian.AppendUint64(table, uint64(ms))
}

// Merge returns a whole block of the records of several that follow each other
// without gaps. It has memory of its own.
func Merge(blocks ...*Block) Block {
	size := HeaderSize
	for _, o := range blocks {
		// A restart point comes with o or at least 4 KiB after the last, and one
		// where o begins.
		size += markerSize + o.Len() + (o.restarts()+1)*restartSize
	}
	x := begin(blocks[0], size)
	for _, o := range blocks {
		x.extend(o)
	}
	x.raw = append(x.raw, x.table...)
	x.table = x.raw[x.itemsEnd:]
	putHeader(x.raw, &x.Header, x.version, None, len(x.raw)-HeaderSize, x.restarts())
	return x
}

// Whole is Merge of b, which Extend or From returned, in the memory of b if that is what
// a whole block takes. Nobody extends b any more, and Whole is called once.
func (b *Block) Whole() Block {
	n := b.Size()
	if spare := cap(b.raw) - n; spare < 0 || spare > n/4 {
		return Merge(b)
	}
	x := *b
	x.raw = append(b.raw[:b.itemsEnd], b.table...)
	x.table = x.raw[x.itemsEnd:]
	putHeader(x.raw, &x.Header, x.version, None, len(x.raw)-HeaderSize, x.restarts())
	return x
}

// Room returns for how many more bytes of records b has memory.
func (b *Block) Room() int { return cap(b.raw) - len(b.raw) }

// Place is where one of the blocks begins that Extend put together.
type Place struct {
	Counter uint64 // of its first record
	Ms      int64  // when that arrived
	Offset  int    // Len of the block before it was extended
}

// From returns a block of the records of b from a place on, at which it has a
// record. It can be extended, and has memory of its own.
func (b *Block) From(at Place) Block {
	x := Block{Header: b.Header, version: b.version}
	x.First, x.Prev, x.FirstMs = at.Counter, at.Counter-1, at.Ms
	x.Count = uint32(b.End() - at.Counter)
	x.raw = append(make([]byte, HeaderSize, HeaderSize+b.Len()-at.Offset), b.items()[at.Offset:]...)
	x.itemsEnd = len(x.raw)
	for i := range b.restarts() {
		if index, off, ms := b.restart(i); off > at.Offset {
			x.table = appendRestart(x.table, index-uint32(at.Counter-b.First), off-at.Offset, ms)
		}
	}
	return x
}

// PointsUpto returns how many restart points b has in its first bytes of records.
func (b *Block) PointsUpto(records uint32) uint16 {
	n := 0
	for n < b.restarts() {
		if _, off, _ := b.restart(n); off >= int(records) {
			break
		}
		n++
	}
	return uint16(n)
}

// Len returns the bytes of b's records.
func (b *Block) Len() int { return max(b.itemsEnd-HeaderSize, 0) }

// Compact returns a whole block in memory of its own if what it is in is much
// larger than it.
func (b *Block) Compact() Block {
	if cap(b.raw)-len(b.raw) <= len(b.raw)/4 {
		return *b
	}
	x := *b
	x.raw = slices.Clip(slices.Clone(b.raw))
	x.table = x.raw[b.itemsEnd:]
	return x
}
