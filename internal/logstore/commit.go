package logstore

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// committer is the one writer of a log: it turns groups into transactions and
// publishes what they stored. Its fields are its goroutine's alone.
type committer struct {
	log   *Log
	batch kv.Batch
	w     write  // the transaction in the making; its memory is used again
	keys  []byte // where the keys of a transaction are
	// expect is how many appends the next group would have if all writers
	// that the last one woke came back, beside those that came meanwhile.
	expect int

	slots     []*slot  // journal values in use, oldest first
	freeSlots []uint32 // numbers to use again
	heldSlots []heldSlot
	nextSlot  uint32 // numbers never used begin here
	journal   int64  // bytes of the records that only the journal has
	groupID   uint64

	tail      []tailBlock // stored blocks kept in memory, oldest first
	tailBytes int64

	deadTold, storedTold int64 // bytes when Wake was called last
}

// tailBlock is a stored block that mem of a shard still has.
type tailBlock struct {
	shard *Shard
	m     *memBlock
}

func (c *committer) run() {
	defer c.log.wg.Done()
	for {
		g := c.take()
		if g == nil {
			return
		}
		c.commit(g)
		c.log.mu.Lock()
		c.expect = g.calls + c.log.open.calls
		c.log.mu.Unlock()
	}
}

// take waits for something to commit and takes the open group; nil when the
// log is closing and nothing is left.
func (c *committer) take() *group {
	l := c.log
	l.mu.Lock()
	for l.open.empty() {
		if l.stopping {
			l.mu.Unlock()
			return nil
		}
		l.idle = true
		l.mu.Unlock()
		<-l.wake
		l.mu.Lock()
	}
	c.gather()
	g := l.open
	l.open = newGroup()
	l.lastParts = len(g.parts)
	for _, p := range g.parts {
		if p.shard.part == p {
			s := p.shard
			size := s.filled + p.b.Len()
			s.part, s.filled, s.hint = nil, 0, size+size/8
		}
	}
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
	l.mu.Unlock()
	return g
}

// gather lets the writers that the last group woke come back before this one
// is taken, with mu held at entry and exit. Without it, the first of them
// would be committed alone and all others wait for the commit after. It gives
// way to whoever is ready to run, for some microseconds at the most after the
// last one came, and costs a lone writer nothing.
func (c *committer) gather() {
	l := c.log
	for idle := 0; l.open.calls < c.expect && idle < gatherRounds && l.open.bytes < groupBytes; idle++ {
		seen := l.open.calls
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
		if l.open.calls > seen {
			idle = 0
		}
	}
}

// commit stores a group and makes it visible, or fails it whole.
func (c *committer) commit(g *group) {
	c.batch.Reset()
	c.keys = c.keys[:0]
	w := &c.w
	w.reset(c)
	w.encode(g)
	if err := c.log.store.Commit(&c.batch); err != nil {
		c.fail(g, w, err)
		return
	}
	w.publish()
	g.settle(nil)
	for _, o := range w.ops {
		if o.commit != nil {
			o.commit()
		}
		close(o.done)
	}
	if c.log.opts.SyncEvery > 0 {
		c.log.unsynced.Store(true)
	}
	close(g.done)
	c.wakeOwner()
}

// wakeOwner tells the owner of the log when there is something for Reclaim.
func (c *committer) wakeOwner() {
	dead := c.log.dead.Load()
	stored := dead + c.log.live.Load()
	if dead-c.deadTold >= wakeDead || stored-c.storedTold >= wakeStored {
		c.deadTold, c.storedTold = dead, stored
		c.log.opts.Wake()
	}
	if dead-c.log.seen.Load() > max(paceDead, c.log.live.Load()/8) {
		c.log.lag()
	}
}

// fail ends a group with an error. Records that wait in the next group go with
// it: they may have been accepted on the condition that these are stored.
func (c *committer) fail(g *group, w *write, err error) {
	if errors.Is(err, shardlog.ErrStorage) {
		err = errors.Join(shardlog.ErrUnknownOutcome, err)
	}
	l := c.log
	w.undo()
	l.mu.Lock()
	next := l.open
	l.open = newGroup()
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
	for _, p := range append(g.parts, next.parts...) {
		s := p.shard
		// The numbers given out are not used again, so that nobody can
		// mistake another record for the one that failed.
		v := s.view.Load()
		s.part, s.filled, s.lastAssigned = nil, 0, v.last
	}
	ops := append(g.ops, next.ops...)
	for _, o := range ops {
		if o.abort != nil {
			o.abort()
		}
	}
	l.mu.Unlock()
	for _, o := range ops {
		if o.err == nil {
			o.err = err
		}
		close(o.done)
	}
	g.settle(err)
	next.settle(err)
	g.err, next.err = err, err
	close(g.done)
	close(next.done)
}

// write is one transaction in the making.
type write struct {
	c       *committer
	touched []*pending // by shard, in order of appearance
	small   []*part    // what goes to the journal
	slots   []*slot    // of the group's journal values
	ops     []*op      // those whose changes are in the batch
	views   []view     // memory for the next views
}

func (w *write) reset(c *committer) {
	clear(w.touched)
	clear(w.small)
	clear(w.ops)
	clear(w.slots)
	*w = write{c: c, touched: w.touched[:0], small: w.small[:0], slots: w.slots[:0], ops: w.ops[:0]}
}

// pending is what a transaction does to one shard.
type pending struct {
	shard   *Shard
	active  bool
	parts   []*part
	base    *view       // what it was
	next    *view       // what it will be
	stored  []*memBlock // blocks to be stored, in order
	journal bool        // the parts go to the journal
	settled int         // how many of base's journal parts stored takes over
}

// encode fills the batch with the group's records and operations.
func (w *write) encode(g *group) {
	w.stage(g)
	w.collect(g.parts)
	for _, t := range w.touched {
		w.place(t)
	}
	if len(w.small) > 0 {
		if len(w.c.slots) >= maxSlots || w.c.journal >= maxJournal {
			w.settleOldest()
		}
		for from, n, size := 0, 0, 0; from < len(w.small); from = n {
			for size = 0; n < len(w.small) && size < journalBytes; n++ {
				size += w.small[n].mem.b.Size()
			}
			w.writeJournal(w.small[from:n])
		}
	}
	w.apply(g)
}

// collect finishes the blocks of the parts and sorts them by shard.
func (w *write) collect(parts []*part) {
	for _, p := range parts {
		t := w.pending(p.shard)
		prev := t.base.last
		if n := len(t.parts); n > 0 {
			prev = t.parts[n-1].mem.b.End() - 1
		}
		p.mem.b = p.b.Finish(prev)
		t.parts = append(t.parts, p)
	}
}

func (w *write) pending(s *Shard) *pending {
	t := &s.pending
	if !t.active {
		clear(t.parts)
		clear(t.stored)
		*t = pending{shard: s, active: true, base: s.view.Load(), parts: t.parts[:0], stored: t.stored[:0]}
		w.touched = append(w.touched, t)
	}
	return t
}

// place decides whether a shard's new parts go to the journal or, with those
// that wait there, into blocks.
func (w *write) place(t *pending) {
	size := 0
	for _, p := range t.parts {
		size += p.mem.b.Size()
	}
	small := size < directBytes && size+t.base.freshBytes < settleBytes && t.base.gaps < maxGaps
	if small || w.c.full() {
		t.journal = true
		w.small = append(w.small, t.parts...)
		return
	}
	w.settle(t, t.parts)
}

// settle stores blocks of the journal's parts of a shard and of new ones.
func (w *write) settle(t *pending, parts []*part) {
	waiting := t.base.mem[t.base.journaled():]
	t.settled = len(waiting)
	run := make([]*memBlock, 0, len(waiting)+len(parts))
	run = append(run, waiting...)
	for _, p := range parts {
		run = append(run, &p.mem)
	}
	left := 0
	for _, m := range run {
		left += m.b.Size()
	}
	for len(run) > 0 {
		n, size := 1, run[0].b.Size()
		limit := blockBytes
		if left <= blockBytes+directBytes {
			limit = left // rather than leave a block that is hardly worth a key
		}
		for n < len(run) && size+run[n].b.Size() <= limit && run[n].b.First == run[n-1].b.End() {
			size += run[n].b.Size()
			n++
		}
		m := run[0]
		switch {
		case n > 1:
			var merged block.Builder
			merged.Init(m.b.First, size)
			for _, m := range run[:n] {
				merged.AppendBlock(&m.b)
			}
			m = &memBlock{b: merged.Finish(m.b.Prev)}
		case m.slot != nil:
			m = &memBlock{b: m.b} // readers still have the other
		}
		w.store(t, m)
		run = run[n:]
		left -= size
	}
}

// store adds a block to the batch.
func (w *write) store(t *pending, m *memBlock) {
	b := &m.b
	value := w.c.log.coder.Encode(b, t.shard.codec)
	if len(value) <= kv.InlineValue && b.Size() > kv.InlineValue && w.c.batch.Inline > maxInline {
		// Compression made it small enough for the store's tree, of which
		// one transaction takes little.
		value = b.Encoded(block.None)
	}
	m.size = int64(len(value))
	t.stored = append(t.stored, m)
	e := entry{first: b.First, count: b.Count, firstMs: b.FirstMs, lastMs: b.LastMs}
	from := len(w.c.keys)
	w.c.keys = appendBlockKey(w.c.keys, t.shard.id, &e)
	w.c.batch.Set(w.c.keys[from:len(w.c.keys):len(w.c.keys)], value)
}

// settleOldest keeps the journal in its bounds: the shards that have parts in
// the oldest quarter of its values get blocks, however small.
func (w *write) settleOldest() {
	c := w.c
	oldest := make(map[*slot]bool, len(c.slots)/4+1)
	for _, sl := range c.slots[:len(c.slots)/4+1] {
		oldest[sl] = true
	}
	c.log.mu.Lock()
	shards := slices.Collect(maps.Values(c.log.shards))
	c.log.mu.Unlock()
	for _, s := range shards {
		if c.full() {
			return
		}
		v := s.view.Load()
		from := v.journaled()
		if from == len(v.mem) || !oldest[v.mem[from].slot] {
			continue
		}
		// Its new parts, if any, are on their way to the journal.
		if t := w.pending(s); len(t.stored) == 0 {
			w.settle(t, nil)
		}
	}
}

// writeJournal adds a journal value with the parts to the batch.
func (w *write) writeJournal(parts []*part) {
	c := w.c
	sl := &slot{refs: len(parts)}
	c.releaseSlots()
	if n := len(c.freeSlots); n > 0 {
		sl.number = c.freeSlots[n-1]
		c.freeSlots = c.freeSlots[:n-1]
	} else {
		sl.number = c.nextSlot
		c.nextSlot++
	}
	c.groupID++
	value := encodeJournal(c.groupID, parts)
	sl.bytes = int64(len(value))
	for _, p := range parts {
		p.mem.slot = sl
		p.mem.size = int64(p.mem.b.Size())
	}
	w.slots = append(w.slots, sl)
	from := len(c.keys)
	c.keys = appendSlotKey(c.keys, sl.number)
	c.batch.Set(c.keys[from:len(c.keys):len(c.keys)], value)
}

// undo takes back what encode changed outside the batch.
func (w *write) undo() {
	for _, sl := range w.slots {
		w.c.freeSlots = append(w.c.freeSlots, sl.number)
	}
	for _, t := range w.touched {
		t.active = false
	}
}

// apply runs the group's operations; one that fails is left out.
func (w *write) apply(g *group) {
	c := w.c
	small := len(g.parts) == 0 && len(g.rides) == 0 && len(g.ops) > 0
	for i, o := range g.ops {
		if c.full() {
			c.postpone(g.ops[i:])
			g.ops = g.ops[:i]
			break
		}
		mark, bytes := len(c.batch.Ops), c.batch.Bytes
		err := runApply(o, &Tx{store: c.log.store, batch: &c.batch})
		if err == nil {
			w.ops = append(w.ops, o)
			// What operations write is small and overwritten in the end, so
			// it counts as dead at once rather than being followed.
			c.log.dead.Add(int64(c.batch.Bytes - bytes))
			small = small && o.small
			continue
		}
		c.batch.Truncate(mark)
		o.err = err
		if o.abort != nil {
			c.log.mu.Lock()
			o.abort()
			c.log.mu.Unlock()
		}
	}
	c.batch.Small = small
	// Those that failed are over, whatever the commit brings.
	kept := g.ops[:0]
	for _, o := range g.ops {
		if o.err != nil {
			close(o.done)
			continue
		}
		kept = append(kept, o)
	}
	g.ops = kept
}

// full tells whether the transaction takes no more than what it has.
func (c *committer) full() bool {
	return len(c.batch.Ops) > maxChanges || c.batch.Inline > maxInline
}

// runApply keeps a panic in a caller's function from ending the committer.
func runApply(o *op, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("shard: operation panicked: %v", p)
		}
	}()
	return o.apply(tx)
}

// postpone moves operations to the front of the open group.
func (c *committer) postpone(ops []*op) {
	l := c.log
	l.mu.Lock()
	l.open.ops = append(append([]*op(nil), ops...), l.open.ops...)
	l.mu.Unlock()
}
