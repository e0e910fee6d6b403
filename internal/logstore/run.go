package logstore

import (
	"slices"

	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// What only the journal has of a shard is in memory in runs, each a block that
// grows with every append: so it takes little more than the bytes of the records,
// however few come at a time, and is the block that will be stored.

// runRef says where the journal has the first records of a run. It is guarded by
// Log.mu.
type runRef struct {
	shard *Shard
	at    kv.Position
	gone  bool // the run is in blocks, or removed
	roomy bool // it began with room for a block
}

// end notes that the run is in blocks, or removed. Mu is held.
func (r *runRef) end() {
	if r.roomy && !r.gone {
		r.shard.log.roomy--
	}
	r.gone = true
}

// begin returns a run of the records of b, which the journal has at a position, with mu
// held. It has room for a block if the last run of the shard became one and not too many
// have it. The caller puts it in its place among the runs.
func (s *Shard) begin(b *block.Block, at kv.Position) memBlock {
	l := s.log
	ref := &runRef{shard: s, at: at, roomy: s.fast && l.roomy < maxRoomy}
	l.runs = append(l.runs, ref)
	if !ref.roomy {
		return memBlock{b: new(block.Block).Extend(b), ref: ref}
	}
	l.roomy++
	return memBlock{b: block.Start(b, flushBytes+flushBytes/4), ref: ref}
}

// partMs bounds what is removed as a whole from a run, in milliseconds.
const partMs = 1000

// partBytes bounds it in bytes, usually by usualPart. Tests change it.
var partBytes = usualPart

const usualPart = 4 << 10

// partRef is a part of a run that is removed as a whole.
type partRef struct {
	end     uint64       // counter after its last record
	firstMs int64        // arrival of the first
	reach   block.Extent // of its run, with it
	count   uint32       // 0 if there is no part
	size    uint32       // bytes by which the run is longer when it is stored
	before  uint32       // bytes of the run before
	sum     uint32       // those of all parts in this memory up to this one, modulo 2^32
}

func (p *partRef) first() uint64 { return p.end - uint64(p.count) }
func (p *partRef) lastMs() int64 { return p.reach.LastMs }

// takes reports whether b, which follows p in a run, becomes part of it.
func (p *partRef) takes(b *block.Block) bool {
	return p.count > 0 && int(p.size)+b.Len() <= partBytes && b.FirstMs-p.firstMs < partMs
}

// runBytes returns the bytes that a run takes when it is stored.
func runBytes(run *block.Block) uint32 { return uint32(run.Size() - block.HeaderSize) }

// extend returns p with b, with which the run has grown already.
func (p partRef) extend(run, b *block.Block) partRef {
	if p.count == 0 {
		p.firstMs = b.FirstMs
	}
	p.end, p.reach = b.End(), run.Extent()
	p.count += b.Count
	more := runBytes(run) - p.before - p.size
	p.size += more
	p.sum += more
	return p
}

// next returns the part behind p, which is empty.
func (p *partRef) next() partRef { return partRef{sum: p.sum, before: p.before + p.size} }

// growth makes records visible without a new view, which would cost more than they
// do: behind those that the run of a view has, in the same memory. It ends where the
// memory does, or something else changes.
type growth struct {
	seen seen // how far readers may look

	// Guarded by Log.mu.
	b     block.Block // the run with all records
	parts []partRef   // but the last one
	open  partRef     // the last one, which grows
}

// grow adds the records of b to the run, if that can be done in place. They are not visible
// yet.
func (g *growth) grow(b *block.Block) bool {
	return joins(&g.b, b) && (g.open.takes(b) || len(g.parts) < cap(g.parts)) && g.b.Grow(b)
}

// show makes the records of b visible, with which the run has grown.
func (g *growth) show(b *block.Block) {
	if !g.open.takes(b) {
		g.parts = append(g.parts, g.open)
		g.open = g.open.next()
	}
	g.open = g.open.extend(&g.b, b)
	g.seen.set(len(g.parts), &g.open)
}

// view returns v with what the run has grown by.
func (g *growth) view(v *view) *view {
	n, open := g.seen.get()
	if open.reach.Count == v.open.reach.Count {
		return v
	}
	x := *v
	x.parts = v.parts[:n]
	x.run.b = v.run.b.Upto(open.reach)
	open.end, open.sum = x.run.b.End(), v.open.sum-v.open.size+open.size
	open.before = runBytes(&x.run.b) - open.size
	if n > 0 {
		open.sum = x.parts[n-1].sum + open.size
	}
	x.open = open
	x.total = v.run.ord + uint64(open.reach.Count)
	x.bytes += int64(open.sum - v.open.sum)
	x.last, x.lastMs = open.end-1, open.lastMs()
	return &x
}

// gather adds records to the runs. V is not published yet. A run may grow in the
// memory of older views: they do not reach that far. If another run begins, begin returns
// it.
func (v *view) gather(b *block.Block, begin func() memBlock) {
	if !v.run.b.IsZero() && (!joins(&v.run.b, b) || v.run.b.Len()+b.Len() > blockBytes) {
		v.closeRun()
	}
	if v.run.b.IsZero() {
		v.run = begin()
		v.run.ord = v.total
	} else {
		v.run.b = v.run.b.Extend(b)
	}
	if v.open.count > 0 && !v.open.takes(b) {
		v.closePart()
	}
	sum := v.open.sum
	v.open = v.open.extend(&v.run.b, b)
	v.total += uint64(b.Count)
	v.bytes += int64(v.open.sum - sum)
	v.more = nil
}

// closePart makes the last part one that does not grow.
func (v *view) closePart() {
	v.parts = append(v.parts, v.open)
	v.open = v.open.next()
}

// closeRun makes the run that grows one that does not: another begins with the next
// record. V is not published yet.
func (v *view) closeRun() {
	if v.run.b.IsZero() {
		return
	}
	closed := v.run
	v.mem = append(v.mem, &closed)
	v.gaps++
	v.run, v.more = memBlock{}, nil
	v.closePart()
	v.open.before = 0
}

// growth returns how the run of v, which is not published yet, can grow in place,
// and makes room for that: for its records and for as many parts as they may be,
// so that both are used up at about the same time.
func (v *view) growth() *growth {
	if v.run.b.IsZero() {
		return nil
	}
	v.run.b = v.run.b.Reserve()
	if n := len(v.parts); cap(v.parts)-n < n/2+1 {
		v.parts = append(make([]partRef, 0, n+max(n, 4, v.run.b.Room()/usualPart+1)), v.parts...)
	}
	g := &growth{b: v.run.b, parts: v.parts, open: v.open}
	g.seen.set(len(v.parts), &v.open)
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

// dropRuns removes the runs and their parts. Mu is held.
func (v *view) dropRuns() {
	for _, m := range v.mem[len(v.mem)-v.gaps:] {
		m.ref.end()
	}
	if v.run.ref != nil {
		v.run.ref.end()
	}
	kept := len(v.mem) - v.gaps
	v.mem = v.mem[:kept:kept] // older views still have the runs in this array
	v.run, v.parts, v.open, v.more, v.gaps = memBlock{}, nil, partRef{}, nil, 0
}

// allParts returns what the runs consist of.
func (v *view) allParts() []partRef {
	if v.open.count == 0 {
		return v.parts
	}
	return append(v.parts[:len(v.parts):len(v.parts)], v.open)
}

// trimRuns removes the parts below the horizon. V is not published yet, and mu is
// held.
func (v *view) trimRuns() {
	parts := v.allParts()
	n := 0
	for n < len(parts) && parts[n].end <= v.horizon {
		v.bytes -= int64(parts[n].size)
		n++
	}
	if n == len(parts) {
		v.dropRuns()
		return
	}
	if n == 0 {
		return
	}
	was := parts[n-1].reach
	left := slices.Clone(parts[n:])
	v.more = nil
	// Closed runs that end below the horizon are cut off with the stored blocks. The
	// one that the first part is in may have had the last that is dropped as well.
	// What is left of it is copied.
	at := block.Place{Counter: left[0].first(), Ms: left[0].firstMs, Offset: int(was.Records)}
	var rest *memBlock
	if first := len(v.mem) - v.gaps; v.gaps > 0 && v.mem[first].b.First < at.Counter {
		rest = v.mem[first].from(at)
		v.mem, v.cut = slices.Clone(v.mem), 0
		v.mem[first] = rest
	} else if v.gaps == 0 && v.run.b.First < at.Counter {
		rest = v.run.from(at)
		v.run = *rest
	}
	for i := range left {
		p := &left[i]
		if rest == nil || p.end > rest.b.End() {
			break
		}
		p.reach.Count -= was.Count
		p.reach.Records -= was.Records
		p.reach.Points = rest.b.PointsUpto(p.reach.Records)
	}
	if v.open.count > 0 {
		v.open, left = left[len(left)-1], left[:len(left)-1]
		v.open.before = runBytes(&v.run.b) - v.open.size
	}
	v.parts = left
}

// from returns the rest of a run from a place on.
func (m *memBlock) from(at block.Place) *memBlock {
	return &memBlock{b: m.b.From(at), ord: m.ord + at.Counter - m.b.First, ref: m.ref}
}

// cutMem removes the first n of mem. What they were is still in its memory, so
// that gets a new one before it is much.
func (v *view) cutMem(n int) {
	v.mem = v.mem[n:]
	if v.cut += n; v.cut > len(v.mem)/4 {
		v.mem, v.cut = append([]*memBlock(nil), v.mem...), 0
	}
}
