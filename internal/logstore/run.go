package logstore

import (
	"slices"
	"sync/atomic"

	"github.com/shardlog/shardlog/internal/block"
)

// What only the journal has of a shard is in memory in runs, each a block that
// grows with every group: so it takes little more than the bytes of the records,
// however few come with a group, and is the block that will be stored.

// partRef is a part of the journal whose records are in a run. It is removed as
// a whole.
type partRef struct {
	end     uint64       // counter after its last record
	firstMs int64        // arrival of the first
	reach   block.Extent // of its run, with it
	count   uint32
	size    uint32 // stored bytes
	sum     uint32 // those of all parts in this memory up to this one, modulo 2^32
	slot    uint32 // where the journal has it
}

func (p *partRef) first() uint64 { return p.end - uint64(p.count) }
func (p *partRef) lastMs() int64 { return p.reach.LastMs }

// refer returns what parts will have of a part that is now the last one of a run.
func refer(run, b *block.Block, before []partRef, slot uint32) partRef {
	p := partRef{end: b.End(), firstMs: b.FirstMs, reach: run.Extent(), count: b.Count, size: uint32(b.Size()), slot: slot}
	p.sum = p.size
	if n := len(before); n > 0 {
		p.sum += before[n-1].sum
	}
	return p
}

// growth makes parts visible without a new view, which would cost more than the
// few records that a group of very many shards has for each: behind those that
// the run and the parts of a view have, in the same memory, and then by their
// number. It ends where the memory does, or something else changes.
type growth struct {
	seen atomic.Int64 // parts that readers may look at

	// The committer's.
	b     block.Block // the run with all parts
	parts []partRef
}

// grow adds parts to what a view has that is published, if that can be done in
// place, and their bytes to size.
func (g *growth) grow(parts []*part, size *int) bool {
	if g == nil {
		return false
	}
	before := g.b.Len()
	for _, p := range parts {
		// What is left of an attempt that ends here is written over: nobody has
		// seen it, and g is not used again.
		if len(g.parts) == cap(g.parts) || !joins(&g.b, &p.block) || !g.b.Grow(&p.block) {
			return false
		}
		g.parts = append(g.parts, refer(&g.b, &p.block, g.parts, p.slot))
	}
	g.seen.Store(int64(len(g.parts)))
	*size += g.b.Len() - before
	return true
}

// view returns v with what the run has grown by.
func (g *growth) view(v *view) *view {
	n := int(g.seen.Load())
	had := len(v.parts)
	if n == had {
		return v
	}
	x := *v
	x.parts = v.parts[:n]
	p := &x.parts[n-1]
	x.run.b = v.run.b.Upto(p.reach)
	x.total = v.run.ord + p.end - v.run.b.First
	x.bytes += int64(p.sum - x.parts[had-1].sum)
	x.last, x.lastMs = p.end-1, p.lastMs()
	return &x
}

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
	v.run.b = v.run.b.Extend(b)
	v.parts = append(v.parts, refer(&v.run.b, b, v.parts, slot))
	v.total += uint64(b.Count)
	v.bytes += int64(b.Size())
	v.more = nil
}

// growth returns how the run of v, which is not published yet, can grow in place.
func (v *view) growth() *growth {
	if v.run.b.IsZero() {
		return nil
	}
	g := &growth{b: v.run.b, parts: v.parts}
	g.seen.Store(int64(len(v.parts)))
	return g
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
	v.run, v.parts, v.more, v.gaps = memBlock{}, nil, nil, 0
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
	if n == 0 {
		return nil
	}
	v.parts, v.more = v.parts[n:], nil
	// Closed runs that end below the horizon are cut off with the stored blocks. The
	// one that the first part is in may have had the last that is dropped as well.
	// What is left of it is copied.
	at := block.Place{Counter: v.parts[0].first(), Ms: v.parts[0].firstMs, Offset: int(dropped[n-1].reach.Records)}
	var rest *memBlock
	if first := len(v.mem) - v.gaps; v.gaps > 0 && v.mem[first].b.First < at.Counter {
		rest = v.mem[first].from(at)
		v.mem, v.cut = slices.Clone(v.mem), 0
		v.mem[first] = rest
	} else if v.gaps == 0 && v.run.b.First < at.Counter {
		rest = v.run.from(at)
		v.run = *rest
	} else {
		return dropped
	}
	v.parts = slices.Clone(v.parts)
	was := dropped[n-1].reach
	for i := range v.parts {
		p := &v.parts[i]
		if p.end > rest.b.End() {
			break
		}
		p.reach.Count -= was.Count
		p.reach.Records -= was.Records
		p.reach.Points = rest.b.PointsUpto(p.reach.Records)
	}
	return dropped
}

// from returns the rest of a run from a place on.
func (m *memBlock) from(at block.Place) *memBlock {
	return &memBlock{b: m.b.From(at), ord: m.ord + at.Counter - m.b.First}
}

// cutMem removes the first n of mem. What they were is still in its memory, so
// that gets a new one before it is much.
func (v *view) cutMem(n int) {
	v.mem = v.mem[n:]
	if v.cut += n; v.cut > len(v.mem)/4 {
		v.mem, v.cut = append([]*memBlock(nil), v.mem...), 0
	}
}
