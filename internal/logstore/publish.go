package logstore

// publish makes what a transaction stored visible.
func (w *write) publish() {
	c := w.c
	for _, sl := range w.slots {
		c.slots = append(c.slots, sl)
		c.log.live.Add(sl.bytes)
	}
	freed := false
	for _, t := range w.touched {
		freed = w.grow(t) || freed
	}
	if freed {
		c.dropSlots()
	}
	c.evict()
	for _, t := range w.touched {
		s := t.shard
		t.active = false
		s.publish(t.next)
		if total, limit := s.usage.Bytes.Add(t.next.bytes-t.base.bytes), s.usage.Limit.Load(); limit > 0 && total > limit {
			if s.usage.behind(total, limit) {
				c.log.lag()
			}
			c.log.opts.Wake()
		}
	}
}

// newView returns the memory for a view. Those of one transaction share some.
func (w *write) newView() *view {
	if len(w.views) == 0 {
		w.views = make([]view, min(len(w.touched), slab))
	}
	v := &w.views[0]
	w.views = w.views[1:]
	return v
}

// grow makes the next view of one shard; freed says that a journal value is
// no longer needed.
func (w *write) grow(t *pending) (freed bool) {
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
			if v.fresh > 0 && v.mem[len(v.mem)-1].b.End() != p.mem.b.First {
				v.gaps++
			}
			p.mem.ord = v.total
			v.total += uint64(p.mem.b.Count)
			v.mem = append(v.mem, &p.mem)
			v.bytes += p.mem.size
			v.fresh++
			v.freshBytes += p.mem.b.Size()
			w.c.journal += int64(p.mem.b.Size())
		}
	}
	for _, p := range t.parts {
		v.last, v.lastMs = p.mem.b.End()-1, p.mem.b.LastMs
		t.shard.stats.recordsIn.Add(int64(p.mem.b.Count))
		t.shard.stats.bytesIn.Add(p.bytes)
	}
	return freed
}

// growStored puts stored blocks in the place of the journal's parts.
func (w *write) growStored(t *pending, v *view) (freed bool) {
	c, from := w.c, v.journaled()
	v.fresh, v.freshBytes, v.gaps = 0, 0, 0
	ord := v.total
	if t.settled > 0 {
		ord = v.mem[from].ord
		for _, m := range v.mem[from:] {
			v.bytes -= m.size
			freed = c.release(m) || freed
		}
		// Older views still have the parts in this array.
		v.mem = append(make([]*memBlock, 0, from+len(t.stored)+len(t.parts)+8), v.mem[:from]...)
	}
	for _, m := range t.stored {
		m.ord = ord
		ord += uint64(m.b.Count)
		v.mem = append(v.mem, m)
		v.blocks = append(v.blocks, entry{
			first: m.b.First, ord: m.ord, firstMs: m.b.FirstMs, lastMs: m.b.LastMs, count: m.b.Count, size: uint32(m.size),
		})
		v.bytes += m.size
		c.log.live.Add(m.size)
		c.tail = append(c.tail, tailBlock{t.shard, m})
		c.tailBytes += int64(m.b.Size())
	}
	t.shard.stats.blocks.Add(int64(len(t.stored)))
	v.total = ord
	return freed
}

// release notes that a part is no longer needed in the journal; freed says
// that its whole value is not.
func (c *committer) release(m *memBlock) (freed bool) {
	c.journal -= int64(m.b.Size())
	m.slot.refs--
	return m.slot.refs == 0
}

// dropSlots makes the slots free that nothing refers to. The order of the
// others is kept.
func (c *committer) dropSlots() {
	kept := c.slots[:0]
	for _, sl := range c.slots {
		if sl.refs > 0 {
			kept = append(kept, sl)
			continue
		}
		c.freeSlot(sl.number)
		c.log.live.Add(-sl.bytes)
		c.log.dead.Add(sl.bytes)
	}
	clear(c.slots[len(kept):])
	c.slots = kept
}

// evict drops the oldest stored blocks from memory until they fit. Blocks that
// were trimmed meanwhile are no longer the first of their shard.
func (c *committer) evict() {
	n := 0
	for ; c.tailBytes > c.log.opts.TailBytes && n < len(c.tail); n++ {
		t := &c.tail[n]
		c.tailBytes -= int64(t.m.b.Size())
		if p := &t.shard.pending; p.active {
			if len(p.next.mem) > 0 && p.next.mem[0] == t.m {
				p.next.mem = p.next.mem[1:]
			}
			continue
		}
		if v := t.shard.view.Load(); len(v.mem) > 0 && v.mem[0] == t.m {
			next := *v
			next.mem = v.mem[1:]
			t.shard.view.Store(&next)
		}
	}
	if n > 0 {
		clear(c.tail[:n]) // so that their memory can be freed
		c.tail = c.tail[n:]
	}
}
