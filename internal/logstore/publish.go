package logstore

import (
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// publish makes what a transaction stored visible.
func (w *txBuilder) publish() {
	l := w.log
	l.mu.Lock()
	for _, s := range w.flushed {
		s.flushing = false
	}
	for _, t := range w.touched {
		w.grow(t)
		t.shard.gatheredMore()
		if t.due {
			l.queueFlush(t.shard)
		}
	}
	l.tail.evict(l.opts.TailBytes)
	needed := l.needed()
	l.mu.Unlock()
	l.journal.Needed(needed)
	var usage *Usage // that of the shards before, and what they added
	added := int64(0)
	for _, t := range w.touched {
		s := t.shard
		s.notify()
		if s.usage != usage {
			l.use(usage, added)
			usage, added = s.usage, 0
		}
		added += t.added
		t.end()
	}
	l.use(usage, added)
}

// use counts bytes that shards with a common limit store more than before.
func (l *Log) use(u *Usage, added int64) {
	if u == nil {
		return
	}
	if total, limit := u.Bytes.Add(added), u.Limit.Load(); limit > 0 && total > limit {
		if u.exceeds(total, limit) {
			l.requireOwner()
		}
		l.opts.Wake()
	}
}

// grow makes what the transaction stored of a shard readable, with mu held.
func (w *txBuilder) grow(t *pending) {
	s := t.shard
	for _, p := range t.parts {
		s.inFlight = false // blocks of runs alone leave it as it is
		s.count(p)
	}
	if len(t.stored) == 0 {
		for _, p := range t.parts {
			t.added += s.addRun(&p.block, w.batch.At)
		}
		return
	}
	v := *s.view()
	before := v.bytes
	w.growStored(t, &v)
	for _, p := range t.parts {
		s.extend(&v, &p.block)
	}
	if v.more == nil {
		v.more = v.growth()
	}
	t.added = v.bytes - before
	s.flushAt, s.flushGaps = flushBytes, maxGaps
	s.set(&v)
}

// count counts the records of a part.
func (s *Shard) count(p *part) {
	s.stats.recordsIn.Add(int64(p.block.Count))
	s.stats.bytesIn.Add(p.bytes)
}

// addRun makes records readable that the journal has at a position, with mu held, and
// returns how many bytes the shard takes in addition.
func (s *Shard) addRun(b *block.Block, at kv.Position) (added int64) {
	s.addingToJournal(b)
	if g := s.newest.more; g != nil {
		before := g.b.Len()
		if g.grow(b) {
			return s.show(b, g.b.Len()-before)
		}
	}
	v := *s.view()
	before := v.bytes
	if n := v.run.b.Len(); n >= blockBytes || n >= flushBytes && v.run.b.Room() < b.Len() {
		v.closeRun() // rather than copy what will be a block soon
	}
	v.gather(b, func() memBlock { return s.begin(b, at) })
	s.log.orderRuns()
	s.extend(&v, b)
	v.more = v.growth()
	s.set(&v)
	return v.bytes - before
}

// addingToJournal notes what the journal has in addition, with mu held.
func (s *Shard) addingToJournal(b *block.Block) {
	s.log.mustSync()
	s.log.addedToJournal(b.Size())
}

// show makes the records of b readable, with which the run has grown in place by so many
// bytes, and returns how many bytes the shard takes in addition. Mu is held.
func (s *Shard) show(b *block.Block, grown int) (added int64) {
	n := &s.newest
	g := n.more
	sum := g.open.sum
	g.show(b)
	n.last, n.lastMs = b.End()-1, b.LastMs
	n.gathered += grown
	s.log.gathered += int64(grown)
	return int64(g.open.sum - sum)
}

// orderRuns puts a run that was begun last in its place, with mu held: what a transaction
// put in the journal becomes readable when it is over, and later entries may have begun
// runs meanwhile.
func (l *Log) orderRuns() {
	for i := len(l.runs) - 1; i > 0 && l.runs[i].at.Seq < l.runs[i-1].at.Seq; i-- {
		l.runs[i], l.runs[i-1] = l.runs[i-1], l.runs[i]
	}
}

// extend notes in a view that a block ends it. Mu is held.
func (s *Shard) extend(v *view, b *block.Block) {
	if b.LastMs < v.lastMs {
		v.stepped = true
		s.log.clockStepped(step{s.id, v.lastMs, b.LastMs})
	}
	v.last, v.lastMs = b.End()-1, b.LastMs
}

// growStored puts stored blocks in the place of the runs that were closed for it, and
// behind them. Mu is held.
func (w *txBuilder) growStored(t *pending, v *view) {
	l := w.log
	kept := len(v.mem) - v.gaps
	runs := v.mem[kept:][:t.runs]
	if len(runs) > 0 {
		t.shard.fast = runs[0].b.Len() >= flushBytes
	}
	ord := v.total
	if len(runs) > 0 {
		ord = runs[0].ord
		end := runs[len(runs)-1].b.End()
		n := 0
		for n < len(v.parts) && v.parts[n].end <= end {
			v.bytes -= int64(v.parts[n].size)
			n++
		}
		v.parts, v.more = v.parts[n:], nil
		for _, m := range runs {
			m.ref.end()
		}
	}
	// Older views still have the runs in their array.
	mem := append(make([]*memBlock, 0, len(v.mem)+len(t.stored)), v.mem[:kept]...)
	v.cut = 0
	for i := range t.stored {
		m, size := t.stored[i].m, t.stored[i].size
		m.ord = ord
		ord += uint64(m.b.Count)
		mem = append(mem, m)
		v.blocks = append(v.blocks, blockRef{
			first: m.b.First, ord: m.ord, firstMs: m.b.FirstMs, lastMs: m.b.LastMs, count: m.b.Count, size: uint32(size),
		})
		v.bytes += size
		l.live.Add(size)
		l.tail.add(t.shard, m)
	}
	v.mem = append(mem, v.mem[kept+t.runs:]...)
	v.gaps -= t.runs
	v.total = max(v.total, ord)
	t.shard.stats.blocks.Add(int64(len(t.stored)))
}
