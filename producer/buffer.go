package producer

// buffer is every record that a producer has and what it bounds of them. The
// caller of its methods holds Producer.mu.
type buffer struct {
	maxRecords int
	maxBytes   int64

	// What the bounds count: entries that are accepted and not freed, which
	// includes those whose callback has not returned.
	records int
	bytes   int64

	undecided int    // accepted entries without a result
	seq       uint64 // number of the last accepted entry

	// An accepted entry without a result is in ready, which holds what
	// arrived, in the queue of its key, or in a request. Entries in a key queue
	// are older than those of the same key in ready.
	waiting list      // entries that wait to be accepted, in order
	ready   list      // accepted entries that are in no key queue and no request
	pages   pageQueue // accepted records that are no entries, and in no request
	age     ageList   // accepted entries without a result, oldest first
	memory
}

// hasRoom reports whether the bounds admit another record.
func (b *buffer) hasRoom(size int) bool {
	return b.records < b.maxRecords && b.bytes+int64(size) <= b.maxBytes
}

// readyRecords returns how many records are in ready and in pages.
func (b *buffer) readyRecords() int { return b.ready.n + b.pages.n }

// readyBytes returns the size of these records.
func (b *buffer) readyBytes() int { return b.ready.bytes + b.pages.bytes }

// firstReady returns the number of the first of these records and when it was
// accepted; there is one.
func (b *buffer) firstReady() (seq uint64, born int64) {
	if e := b.ready.head; e != nil {
		return e.seq, e.born
	}
	pg := b.pages.head
	return pg.first, pg.items[0].born
}

// accept takes an entry in.
func (b *buffer) accept(e *entry, now int64) {
	b.seq++
	e.state, e.seq, e.born = queued, b.seq, now
	b.records++
	b.bytes += int64(e.size)
	b.undecided++
	b.ready.push(e)
	b.age.push(e)
}

// onDecided records that an accepted entry has got its result.
func (b *buffer) onDecided(e *entry) {
	b.age.remove(e)
	b.undecided--
}

// remove gives the room of a decided entry back, and its memory.
func (b *buffer) remove(e *entry) {
	b.records--
	b.bytes -= int64(e.size)
	b.recycle(e)
}
