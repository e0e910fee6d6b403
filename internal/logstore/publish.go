package logstore

import "time"

// publish makes what a transaction stored visible.
func (w *txBuilder) publish() {
	l := w.log
	for _, sl := range w.slots {
		l.slots.used = append(l.slots.used, sl)
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
	if t.journal {
		// An append may use the array of older views on: they do not reach
		// that far.
		for _, p := range t.parts {
			if v.unflushed > 0 && !joins(v.mem[len(v.mem)-1], &p.mem) {
				v.gaps++
			}
			p.mem.ord = v.total
			v.total += uint64(p.mem.b.Count)
			v.mem = append(v.mem, &p.mem)
			v.bytes += p.mem.size
			v.unflushed++
			v.unflushedBytes += p.mem.b.Size()
			w.log.slots.bytes += int64(p.mem.b.Size())
		}
	}
	for _, p := range t.parts {
		if p.mem.b.LastMs < v.lastMs {
			v.stepped = true
			w.log.logWarn("the clock has stepped back: it was ahead before, or is behind now", "shard", t.shard.id.String(),
				"before", time.UnixMilli(v.lastMs), "now", time.UnixMilli(p.mem.b.LastMs))
		}
		v.last, v.lastMs = p.mem.b.End()-1, p.mem.b.LastMs
		t.shard.stats.recordsIn.Add(int64(p.mem.b.Count))
		t.shard.stats.bytesIn.Add(p.bytes)
	}
	return freed
}

// joins reports whether b continues a, so that both can be one block: without a
// gap in the numbers or a step back of the clock.
func joins(a, b *memBlock) bool { return a.b.End() == b.b.First && b.b.FirstMs >= a.b.LastMs }

// growStored puts stored blocks in the place of the journal's parts.
func (w *txBuilder) growStored(t *pending, v *view) (freed bool) {
	l, from := w.log, v.firstUnflushed()
	v.unflushed, v.unflushedBytes, v.gaps = 0, 0, 0
	ord := v.total
	if t.flushed > 0 {
		ord = v.mem[from].ord
		for _, m := range v.mem[from:] {
			v.bytes -= m.size
			freed = l.slots.release(m.slot, m.b.Size()) || freed
		}
		// Older views still have the parts in this array.
		v.mem = append(make([]*memBlock, 0, from+len(t.stored)+len(t.parts)+8), v.mem[:from]...)
	}
	for _, m := range t.stored {
		m.ord = ord
		ord += uint64(m.b.Count)
		v.mem = append(v.mem, m)
		v.blocks = append(v.blocks, blockRef{
			first: m.b.First, ord: m.ord, firstMs: m.b.FirstMs, lastMs: m.b.LastMs, count: m.b.Count, size: uint32(m.size),
		})
		v.bytes += m.size
		l.live.Add(m.size)
		l.tail.add(t.shard, m)
	}
	t.shard.stats.blocks.Add(int64(len(t.stored)))
	v.total = ord
	return freed
}
