package producer

// Resolved returns the options after defaults.
func (p *Producer) Resolved() Options { return p.conf.Options }

// Kept returns how many entries, chunks, key queues and requests a producer
// keeps for reuse.
func (p *Producer) Kept() (entries, chunks, queues, requests int) {
	p.mu.Lock()
	defer p.unlock()
	c := &p.core
	for e := c.buffer.entries; e != nil; e = e.next {
		entries++
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
