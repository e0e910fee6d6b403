package producer

// Resolved returns the options after defaults.
func (p *Producer) Resolved() Options { return p.conf.Options }

// Kept returns for how many records a producer keeps entries and pages for reuse,
// and how many chunks, slabs included, key queues and requests.
func (p *Producer) Kept() (entries, chunks, queues, requests int) {
	p.mu.Lock()
	defer p.unlock()
	c := &p.core
	for e := c.buffer.entries; e != nil; e = e.next {
		entries++
	}
	for pg := c.buffer.freePages; pg != nil; pg = pg.next {
		entries += cap(pg.items)
		if cap(pg.slab) > 0 {
			chunks++
		}
	}
	for m := c.buffer.freeChunks; m != nil; m = m.next {
		chunks++
	}
	for q := c.keys.free; q != nil; q = q.next {
		queues++
	}
	for b := c.flight.free; b != nil; b = b.next {
		requests++
	}
	return entries, chunks, queues, requests
}
