package producer

import "time"

// More than maxKept entries are not kept for reuse for longer than idleTime
// while nothing is pending. 4,096 entries are about 2 MiB. Of pages the items
// count, and their slabs are bounded, too.
const (
	maxKept     = 4096
	maxKeptSlab = 1 << 20
	idleTime    = time.Second
)

// Small payloads are copied into chunks, which are used again when no entry has
// its data there. A chunk whose data a sink may still be reading never counts
// down to 0 users: it goes to the garbage collector. A record that stays long
// keeps its whole chunk, so chunks are small.
const (
	chunkSize = 1024
	smallData = 256
)

// chunk is memory for the data of several entries.
type chunk struct {
	buf   [chunkSize]byte
	used  int // bytes
	users int // entries
	next  *chunk
}

// memory is what a buffer keeps for reuse. The caller of its methods holds
// Producer.mu.
type memory struct {
	entries    *entry
	count      int    // of entries
	current    *chunk // that takes more data
	freeChunks *chunk
	freePages  *page
	items      int // that freePages have room for
	slabs      int // bytes of their slabs
}

// keepsLittle reports whether what is kept may stay while nothing is pending.
func (m *memory) keepsLittle() bool { return m.count+m.items <= maxKept && m.slabs <= maxKeptSlab }

// newPage returns an empty page.
func (m *memory) newPage() *page {
	pg := m.freePages
	if pg == nil {
		return &page{}
	}
	m.freePages, pg.next = pg.next, nil
	m.items -= cap(pg.items)
	m.slabs -= cap(pg.slab)
	return pg
}

// recyclePage takes back a page that is done. One whose memory others may still
// use is left to the garbage collector.
func (m *memory) recyclePage(pg *page) {
	if pg.foreign {
		return
	}
	pg.reset()
	m.items += cap(pg.items)
	m.slabs += cap(pg.slab)
	pg.next, m.freePages = m.freePages, pg
}

// newEntry returns an empty entry.
func (m *memory) newEntry() *entry {
	e := m.entries
	if e == nil {
		return &entry{}
	}
	m.entries, e.next = e.next, nil
	m.count--
	return e
}

// recycle takes back an entry that is done. One that a request still refers to
// is left to the garbage collector.
func (m *memory) recycle(e *entry) {
	if e.carrier != nil {
		return
	}
	if e.chunk != nil {
		m.releaseData(e.chunk)
	}
	*e = entry{next: m.entries}
	m.entries = e
	m.count++
}

// copyData copies data of 1 to smallData bytes into a chunk.
func (m *memory) copyData(data []byte) ([]byte, *chunk) {
	c := m.current
	if c == nil || chunkSize-c.used < len(data) {
		if c = m.freeChunks; c == nil {
			c = new(chunk)
		} else {
			m.freeChunks, c.next = c.next, nil
		}
		m.current = c
	}
	from := c.used
	c.used += copy(c.buf[from:], data)
	c.users++
	return c.buf[from:c.used:c.used], c
}

// releaseData ends the use of c by one entry.
func (m *memory) releaseData(c *chunk) {
	if c.users--; c.users > 0 {
		return
	}
	c.used = 0
	if c != m.current {
		c.next, m.freeChunks = m.freeChunks, c
	}
}

// drop leaves what is kept to the garbage collector. The current chunk stays:
// entries may have data in it.
func (m *memory) drop() {
	m.entries, m.count, m.freeChunks = nil, 0, nil
	m.freePages, m.items, m.slabs = nil, 0, 0
}
