package logstore

import (
	"slices"

	"github.com/shardlog/shardlog/internal/block"
)

// What only the journal has of a shard is in memory in runs, each a block that
// grows with every group: so it takes little more than the bytes of the records,
// however few come with a group, and is the block that will be stored.

// partRef is a part of the journal whose records are in a run. It is removed as
// a whole.
type partRef struct {
	end             uint64 // counter after its last record
	firstMs, lastMs int64  // arrivals of the first and the last
	count           uint32
	offset          uint32 // where it begins in the records of its run
	size            uint32 // stored bytes
	slot            uint32 // where the journal has it
}

func (p *partRef) first() uint64 { return p.end - uint64(p.count) }

// gather adds a part that the journal has in a slot to the runs. V is not
// published yet. A run may grow in the memory of older views: they do not reach
// that far.
func (v *view) gather(b *block.Block, slot uint32) {
	if !v.run.b.IsZero() && !joins(&v.run.b, b) {
		closed := v.run
		v.mem = append(v.mem, &closed)
		v.gaps++
		v.run = memBlock{}
	}
	if v.run.b.IsZero() {
		v.run.ord = v.total
	}
	size := b.Size()
	v.parts = append(v.parts, partRef{
		end: b.End(), firstMs: b.FirstMs, lastMs: b.LastMs, count: b.Count, offset: uint32(v.run.b.Len()), size: uint32(size), slot: slot,
	})
	v.run.b = v.run.b.Extend(b)
	v.total += uint64(b.Count)
	v.bytes += int64(size)
}

// joins reports whether b continues a, so that both can be one block: without a
// gap in the numbers or a step back of the clock.
func joins(a, b *block.Block) bool { return a.End() == b.First && b.FirstMs >= a.LastMs }

// runs returns what only the journal has, in order.
func (v *view) runs() []*block.Block {
	runs := make([]*block.Block, 0, v.gaps+1)
	for _, m := range v.mem[len(v.mem)-v.gaps:] {
		runs = append(runs, &m.b)
	}
	if !v.run.b.IsZero() {
		runs = append(runs, &v.run.b)
	}
	return runs
}

// gathered returns the bytes of the records that only the journal has.
func (v *view) gathered() int {
	n := v.run.b.Len()
	for _, m := range v.mem[len(v.mem)-v.gaps:] {
		n += m.b.Len()
	}
	return n
}

// dropRuns removes the runs and their parts, whose records are in blocks now or
// will be with the same transaction.
func (v *view) dropRuns() {
	kept := len(v.mem) - v.gaps
	v.mem = v.mem[:kept:kept] // older views still have the runs in this array
	v.run, v.parts, v.gaps = memBlock{}, nil, 0
}

// trimRuns removes the parts below the horizon, and returns those. V is not
// published yet.
func (v *view) trimRuns() []partRef {
	n := 0
	for n < len(v.parts) && v.parts[n].end <= v.horizon {
		v.bytes -= int64(v.parts[n].size)
		n++
	}
	dropped := v.parts[:n]
	if n == len(v.parts) {
		v.dropRuns()
		return dropped
	}
	v.parts = v.parts[n:]
	if n == 0 {
		return nil
	}
	// Closed runs that end below it are cut off with the stored blocks. The one
	// that the first part is in may have had others.
	at := block.Place{Counter: v.parts[0].first(), Ms: v.parts[0].firstMs, Offset: int(v.parts[0].offset)}
	if at.Offset == 0 {
		return dropped
	}
	v.parts = slices.Clone(v.parts)
	from := func(m *memBlock) memBlock {
		return memBlock{b: m.b.From(at), ord: m.ord + at.Counter - m.b.First}
	}
	end := v.run.b.End()
	for i := len(v.mem) - v.gaps; i < len(v.mem); i++ {
		if m := v.mem[i]; m.b.End() > at.Counter {
			rest := from(m)
			v.mem = slices.Clone(v.mem)
			v.mem[i], v.cut, end = &rest, 0, rest.b.End()
			break
		}
	}
	if v.run.b.First < at.Counter && at.Counter < v.run.b.End() {
		v.run, end = from(&v.run), v.run.b.End()
	}
	for i := range v.parts {
		if v.parts[i].end > end {
			break
		}
		v.parts[i].offset -= uint32(at.Offset)
	}
	return dropped
}

// cutMem removes the first n of mem. What they were is still in its memory, so
// that gets a new one before it is much.
func (v *view) cutMem(n int) {
	v.mem = v.mem[n:]
	if v.cut += n; v.cut > len(v.mem)/4 {
		v.mem, v.cut = append([]*memBlock(nil), v.mem...), 0
	}
}
