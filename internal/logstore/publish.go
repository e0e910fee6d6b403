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
	for _, t := range w.touched {
		s := t.shard
		t.active = false
		s.publish(t.next)
		if total, limit := s.usage.Bytes.Add(t.next.bytes-t.base.bytes), s.usage.Limit.Load(); limit > 0 && total > limit {
			if s.usage.exceeds(total, limit) {
				l.requireOwner()
			}
			l.opts.Wake()
		}
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

// grow makes the next view of one shard; freed says that a journal value is
// no longer needed.
func (w *txBuilder) grow(t *pending) (freed bool) {
	v := w.newView()
	*v = *t.base
	t.next = v
	if len(t.stored) > 0 {
		freed = w.growStored(t, v)
	}
	records, bytes := int64(0), int64(0)
	for _, p := range t.parts {
		b := &p.block
		if t.journal {
			v.gather(b, p.slot)
			w.log.slots.bytes += int64(b.Size())
		}
		if b.LastMs < v.lastMs {
			v.stepped = true
			w.log.logWarn("the clock has stepped back: it was ahead before, or is behind now", "shard", t.shard.id.String(),
				"before", time.UnixMilli(v.lastMs), "now", time.UnixMilli(b.LastMs))
		}
		v.last, v.lastMs = b.End()-1, b.LastMs
		records += int64(b.Count)
		bytes += p.bytes
	}
	t.shard.stats.recordsIn.Add(records)
	t.shard.stats.bytesIn.Add(bytes)
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
