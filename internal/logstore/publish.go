package logstore

import "time"

// publish makes what a transaction stored visible.
func (w *txBuilder) publish() {
	l := w.log
	for _, sl := range w.slots {
		l.slots.use(sl)
		l.live.Add(sl.bytes)
	}
	freed := false
	for _, t := range w.touched {
		freed = w.grow(t) || freed
	}
	if freed {
		l.dropSlots()
	}
	l.tail.evict(l.opts.TailBytes)
	var usage *Usage // that of the shards before, and what they added
	added := int64(0)
	for _, t := range w.touched {
		s := t.shard
		t.active = false
		if t.next != nil {
			s.set(t.next)
		}
		s.notify()
		if s.usage != usage {
			l.use(usage, added)
			usage, added = s.usage, 0
		}
		added += t.added
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

// slabSize bounds how many views are allocated together, because one that is in
// use keeps all.
const slabSize = 8

// newView returns the memory for a view. Those of one transaction share some.
func (w *txBuilder) newView() *view {
	if len(w.views) == 0 {
		w.views = make([]view, min(len(w.touched), slabSize))
	}
	v := &w.views[0]
	w.views = w.views[1:]
	return v
}

// grow makes the next view of one shard, or makes its run grow in place; freed
// says that a journal value is no longer needed.
func (w *txBuilder) grow(t *pending) (freed bool) {
	s := t.shard
	records, bytes, stored := int64(0), int64(0), int64(0)
	for _, p := range t.parts {
		records += int64(p.block.Count)
		bytes += p.bytes
		stored += int64(p.block.Size())
	}
	s.stats.recordsIn.Add(records)
	s.stats.bytesIn.Add(bytes)
	if t.journal {
		w.log.slots.bytes += stored
	}
	if n := &s.newest; t.journal && len(t.stored) == 0 && n.more.grow(t.parts, &n.gathered) {
		t.added = stored
		n.last, n.lastMs = n.more.b.End()-1, n.more.b.LastMs
		return false
	}
	base, v := s.view(), w.newView()
	*v = *base
	t.next = v
	if len(t.stored) > 0 {
		freed = w.growStored(t, v)
	}
	for _, p := range t.parts {
		b := &p.block
		if t.journal {
			v.gather(b, p.slot)
		}
		if b.LastMs < v.lastMs {
			v.stepped = true
			w.log.logWarn("the clock has stepped back: it was ahead before, or is behind now", "shard", s.id.String(),
				"before", time.UnixMilli(v.lastMs), "now", time.UnixMilli(b.LastMs))
		}
		v.last, v.lastMs = b.End()-1, b.LastMs
	}
	v.more = v.growth()
	t.added = v.bytes - base.bytes
	return freed
}

// growStored puts stored blocks in the place of the runs.
func (w *txBuilder) growStored(t *pending, v *view) (freed bool) {
	l := w.log
	for i := range v.parts {
		v.bytes -= int64(v.parts[i].size)
		v.total -= uint64(v.parts[i].count)
	}
	freed = l.slots.release(v.parts)
	v.dropRuns()
	for i := range t.stored {
		m, size := t.stored[i].m, t.stored[i].size
		m.ord = v.total
		v.total += uint64(m.b.Count)
		v.mem = append(v.mem, m)
		v.blocks = append(v.blocks, blockRef{
			first: m.b.First, ord: m.ord, firstMs: m.b.FirstMs, lastMs: m.b.LastMs, count: m.b.Count, size: uint32(size),
		})
		v.bytes += size
		l.live.Add(size)
		l.tail.add(t.shard, m)
	}
	t.shard.stats.blocks.Add(int64(len(t.stored)))
	return freed
}
