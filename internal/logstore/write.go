package logstore

import (
	"fmt"
	"maps"
	"slices"

	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// txBuilder makes one transaction of a group: it decides what becomes a block
// and what goes to the journal, and what the shards look like after it. Its
// memory is used again for the next one. It belongs to the committer.
type txBuilder struct {
	log     *Log
	batch   kv.Batch
	keys    []byte     // where the keys of batch are
	touched []*pending // by shard, in order of appearance
	small   []*part    // what goes to the journal
	slots   []*slot    // of the group's journal values
	ops     []*op      // those whose changes are in the batch
	views   []view     // memory for the next views
}

func (w *txBuilder) reset() {
	w.batch.Reset()
	w.keys = w.keys[:0]
	clear(w.touched)
	clear(w.small)
	clear(w.ops)
	clear(w.slots)
	w.touched, w.small, w.slots, w.ops, w.views = w.touched[:0], w.small[:0], w.slots[:0], w.ops[:0], nil
}

// encode fills the batch with the group's records and operations.
func (w *txBuilder) encode(g *group) {
	w.prepare(g)
	w.collect(g.parts)
	for _, t := range w.touched {
		w.place(t)
	}
	if len(w.small) > 0 {
		if len(w.log.slots.held) >= maxHeld {
			// Nobody syncs, or not often enough. A failure is the store's, which
			// takes no commit after it.
			_ = w.log.sync()
		}
		if w.log.slots.full() {
			w.flushOldest()
		}
		for from, n, size := 0, 0, 0; from < len(w.small); from = n {
			for size = 0; n < len(w.small) && size < journalBytes; n++ {
				size += w.small[n].block.Size()
			}
			w.writeJournal(w.small[from:n])
		}
	}
	w.apply(g)
}

// collect finishes the blocks of the parts and sorts them by shard.
func (w *txBuilder) collect(parts []*part) {
	for _, p := range parts {
		t := w.pending(p.shard)
		prev := p.shard.newest.last
		if n := len(t.parts); n > 0 {
			prev = t.parts[n-1].block.End() - 1
		}
		p.block = p.b.Finish(prev)
		t.parts = append(t.parts, p)
	}
}

func (w *txBuilder) pending(s *Shard) *pending {
	t := &s.pending
	if !t.active {
		t.shard, t.active = s, true
		w.touched = append(w.touched, t)
	}
	return t
}

// end forgets what the transaction did to the shard. It may be the last one for
// long, and would keep the newest blocks in memory.
func (t *pending) end() {
	clear(t.parts)
	clear(t.stored)
	*t = pending{parts: t.parts[:0], stored: t.stored[:0]}
}

// place decides whether a shard's new parts go to the journal or, with those
// that wait there, into blocks.
func (w *txBuilder) place(t *pending) {
	size := 0
	for _, p := range t.parts {
		size += p.block.Len()
	}
	small := size < directBytes && size+t.shard.newest.gathered < flushBytes && t.shard.newest.gaps < maxGaps
	if small || w.full() {
		t.journal = true
		w.small = append(w.small, t.parts...)
		return
	}
	w.flush(t, t.parts)
}

// flush stores blocks of the runs of a shard and of new parts.
func (w *txBuilder) flush(t *pending, parts []*part) {
	list := t.shard.view().runs()
	runs := len(list)
	for _, p := range parts {
		list = append(list, &p.block)
	}
	left := 0
	for _, b := range list {
		left += b.Len()
	}
	for i, n := 0, 0; i < len(list); i = n {
		size := list[i].Len()
		limit := blockBytes
		if left <= blockBytes+directBytes {
			limit = left // rather than leave a block that is hardly worth a key
		}
		for n = i + 1; n < len(list) && size+list[n].Len() <= limit && joins(list[n-1], list[n]); n++ {
			size += list[n].Len()
		}
		left -= size
		if n == i+1 && i >= runs {
			w.storePart(t, parts[i-runs])
			continue
		}
		w.store(t, &memBlock{b: block.Merge(list[i:n]...)})
	}
}

// storePart adds a part to the batch that is a block as it is.
func (w *txBuilder) storePart(t *pending, p *part) {
	p.kept = true
	w.store(t, &memBlock{b: p.block.Compact()})
}

// store adds a block to the batch.
func (w *txBuilder) store(t *pending, m *memBlock) {
	b := &m.b
	value := w.log.coder.Encode(b, t.shard.codec)
	if len(value) <= kv.InlineValue && b.Size() > kv.InlineValue && w.batch.Inline > maxInline {
		// Compression made it small enough for the store's tree, of which
		// one transaction takes little.
		value = b.Encoded(block.None)
	}
	t.stored = append(t.stored, storedBlock{m, int64(len(value))})
	e := blockRef{first: b.First, count: b.Count, firstMs: b.FirstMs, lastMs: b.LastMs}
	from := len(w.keys)
	w.keys = appendBlockKey(w.keys, t.shard.id, &e)
	w.batch.Set(w.keys[from:len(w.keys):len(w.keys)], value)
}

// flushOldest keeps the journal in its bounds: the shards that have parts in
// the oldest quarter of its values get blocks, however small.
func (w *txBuilder) flushOldest() {
	j := &w.log.slots
	upto := j.used[len(j.used)/4].group
	w.log.mu.Lock()
	shards := slices.Collect(maps.Values(w.log.shards))
	w.log.mu.Unlock()
	for _, s := range shards {
		if w.full() {
			return
		}
		v := s.view()
		if len(v.parts) == 0 || j.byNumber[v.parts[0].slot].group > upto {
			continue
		}
		// Its new parts, if any, are on their way to the journal.
		if t := w.pending(s); len(t.stored) == 0 {
			w.flush(t, nil)
		}
	}
}

// writeJournal adds a journal value with the parts to the batch.
func (w *txBuilder) writeJournal(parts []*part) {
	j := &w.log.slots
	j.group++
	sl := &slot{number: j.take(w.log.syncDone.Load()), refs: len(parts), group: j.group}
	for _, p := range parts {
		p.slot = sl.number
	}
	value := encodeJournal(j.group, parts)
	sl.bytes = int64(len(value))
	w.slots = append(w.slots, sl)
	from := len(w.keys)
	w.keys = appendSlotKey(w.keys, sl.number)
	w.batch.Set(w.keys[from:len(w.keys):len(w.keys)], value)
}

// undo takes back what encode changed outside the batch.
func (w *txBuilder) undo() {
	for _, sl := range w.slots {
		w.log.slots.free = append(w.log.slots.free, sl.number)
	}
	for _, t := range w.touched {
		t.end()
	}
}

// apply runs the group's operations; one that fails is left out.
func (w *txBuilder) apply(g *group) {
	small := len(g.parts) == 0 && len(g.attachments) == 0 && len(g.ops) > 0
	for i, o := range g.ops {
		if w.full() {
			w.log.postpone(g.ops[i:])
			g.ops = g.ops[:i]
			break
		}
		mark, bytes := len(w.batch.Ops), w.batch.Bytes
		err := runApply(o, &Tx{store: w.log.store, batch: &w.batch})
		if err == nil {
			w.ops = append(w.ops, o)
			// What operations write is small and overwritten in the end, so
			// it counts as dead immediately rather than being followed.
			w.log.dead.Add(int64(w.batch.Bytes - bytes))
			small = small && o.small
			continue
		}
		w.batch.Truncate(mark)
		o.err = err
		if o.abort != nil {
			w.log.mu.Lock()
			o.abort()
			w.log.mu.Unlock()
		}
	}
	w.batch.Small = small
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

// runApply keeps a panic in a caller's function from ending the committer.
func runApply(o *op, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("an operation of the log panicked: %v", p)
		}
	}()
	return o.apply(tx)
}

// full reports whether the transaction takes nothing in addition to what it
// has.
func (w *txBuilder) full() bool {
	return len(w.batch.Ops) > maxChanges || w.batch.Inline > maxInline
}

// prepare adds what the participants of the group change.
func (w *txBuilder) prepare(g *group) {
	if len(g.attachments) == 0 {
		return
	}
	before := w.batch.Bytes
	g.prepare(&Tx{store: w.log.store, batch: &w.batch})
	// As for operations: it is small, and overwritten in the end.
	w.log.dead.Add(int64(w.batch.Bytes - before))
}
