package producer

import (
	"time"

	"github.com/shardlog/shardlog"
)

// This file is what the core does with pages. Two invariants keep it simple:
//
//   - The entries in buffer.ready are older than the pages in buffer.pages.
//   - The records of pages without a result are younger than all entries
//     without one, and a page in a request is older than those in buffer.pages.
//
// So a record that cannot be in a page turns those before it into entries.

// keysAreFree reports whether there is no key of which a record would have to
// wait for another one.
func (c *core) keysAreFree() bool { return !c.strict && len(c.keys.byHash) == 0 }

// packs reports whether a record that arrives goes into a page. It may have to
// leave it again: what counts is the moment in which it is sent.
func (c *core) packs() bool {
	return c.conf.packs && c.keysAreFree()
}

// pack accepts a record into the last page, or a new one.
func (c *core) pack(key string, data []byte, how storing, hashKey shardlog.HashKey, to recipient, now int64) {
	b, size := &c.buffer, len(key)+len(data)
	pg := b.pages.tail
	if pg == nil || len(pg.items) >= c.conf.MaxBatchRecords || pg.bytes+size > c.conf.MaxBatchBytes {
		pg = b.newPage()
		pg.first = b.seq + 1
		b.pages.push(pg)
	}
	pg.add(key, data, how, hashKey, to, now)
	b.pages.n++
	b.pages.bytes += size
	b.seq++
	b.records++
	b.bytes += int64(size)
	b.undecided++
	c.stats.received++
}

// packWaiting accepts an entry that waited for room into a page, if it can be in
// one. The entry is used again.
func (c *core) packWaiting(e *entry, now int64) bool {
	if e.extras != nil || !c.packs() {
		return false
	}
	var hashKey shardlog.HashKey
	if e.explicit {
		hashKey = e.hashKey
	}
	c.pack(e.key, e.data, c.conf.storing(len(e.data), e.chunk == nil), hashKey, e.recipient, now)
	c.buffer.recycle(e)
	return true
}

// sendsPacked reports whether the first page can go as it is. If it cannot
// because others are in flight, or wait for another attempt, entries are made of
// all pages; not, if it only has to wait for entries.
func (c *core) sendsPacked() bool {
	if c.buffer.pages.n == 0 {
		return false
	}
	if c.flight.senders-c.flight.starting > 1 || !c.keysAreFree() {
		c.unpackReady()
		return false
	}
	return c.buffer.ready.n == 0
}

// fillPacked makes the first page the request b.
func (c *core) fillPacked(b *request, now int64) {
	pg := c.buffer.pages.pop()
	b.page, b.unpacked = pg, false
	b.undecided, b.bytes = len(pg.items), pg.bytes
	b.noQueues = true
	for i := range pg.items {
		c.stats.buffering.add(time.Duration(now - pg.items[i].born))
	}
}

// onPackedStored ends a request all of whose records are stored and still are in
// their page. A record with a callback keeps its room until that has returned.
func (x *completion) onPackedStored() {
	b, pg := x.b, x.b.page
	n := len(pg.items)
	x.stats.stored += uint64(n)
	x.stats.storedBytes += uint64(pg.bytes)
	x.stats.put += uint64(n)
	x.stats.putBytes += uint64(pg.bytes)
	x.stats.recordsPerSlot.addAll(1, n)
	x.buffer.undecided -= n
	pg.foreign = pg.foreign || b.sinkMayRead
	callbacks := 0
	for i := range pg.items {
		it := &pg.items[i]
		seq := pg.first + uint64(i)
		x.outbox.onProgress(seq, false)
		if it.callback != nil {
			callbacks++
			continue
		}
		if w := it.waiter; w != nil {
			w.out[it.outIndex] = outcome{set: true, res: resultOf(&b.results[i], x.stored)}
			x.noteResult(w)
		}
		x.freeItem(seq, it)
	}
	if callbacks > 0 {
		pg.takeResults(b)
		pg.attempts = x.stored
	}
	b.clearRecords()
	x.endRequest(b)
	switch {
	case callbacks == 0:
		x.buffer.recyclePage(pg)
	case x.outbox.pending.n > 0: // the entries there come first
		x.unpackStored(pg)
	default:
		x.outbox.pages.push(pg)
	}
}

// freeItem gives back the room of a record of a page.
func (c *core) freeItem(seq uint64, it *item) {
	c.outbox.onProgress(seq, true)
	c.buffer.records--
	c.buffer.bytes -= int64(it.size())
}

// unpack makes entries of all records without a result that are in pages.
func (c *core) unpack() {
	if b := c.flight.withoutQueues; b != nil {
		c.unpackRequest(b)
	}
	c.unpackReady()
}

// unpackReady makes entries of the records that are in pages and in no request.
func (c *core) unpackReady() {
	for c.buffer.pages.head != nil {
		pg := c.buffer.pages.pop()
		for i := range pg.items {
			e := c.entryOf(pg, i)
			e.state = queued
			c.buffer.ready.push(e)
			c.buffer.age.push(e)
		}
	}
}

// unpackRequest makes entries of the records of a request, if they are in a page.
// The page stays what its sender reads.
func (c *core) unpackRequest(b *request) {
	if !b.isPacked() {
		return
	}
	b.unpacked = true
	for i := range b.page.items {
		e := c.entryOf(b.page, i)
		e.state, e.carrier, e.attempts = inRequest, b, 1
		c.buffer.age.push(e)
		sl := b.addSlot()
		sl.first, sl.last, sl.n, sl.size = e, e, 1, e.size
	}
}

// unpackStored makes entries of the records of a page whose callbacks have not
// been called.
func (c *core) unpackStored(pg *page) {
	for i := range pg.items {
		if pg.items[i].callback == nil {
			continue
		}
		e := c.entryOf(pg, i)
		e.state, e.attempts = decided, 1
		res := resultOf(&pg.results[i], pg.attempts)
		e.deliver(&e.outcome, &res, nil)
		c.outbox.pending.push(e)
	}
}

// entryOf returns a new entry for an item. It refers to the page's memory, which
// therefore is not used again.
func (c *core) entryOf(pg *page, i int) *entry {
	pg.foreign = true
	it, e := &pg.items[i], c.buffer.newEntry()
	e.key, e.data, e.size, e.born, e.seq = it.key, it.data(), it.size(), it.born, pg.first+uint64(i)
	e.hashKey = pg.hashKey(i)
	e.explicit = e.hashKey.IsSet()
	e.hash = c.conf.hashOf(it.key)
	e.setRecipient(it.recipient)
	return e
}

// oldestBorn returns when the oldest record without a result was accepted; there
// is one.
func (c *core) oldestBorn() int64 {
	if e := c.buffer.age.oldest; e != nil {
		return e.born
	}
	if b := c.flight.withoutQueues; b != nil && b.isPacked() {
		return b.page.items[0].born
	}
	return c.buffer.pages.head.items[0].born
}
