package logstore

import (
	"fmt"

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
	entry   []byte     // what goes to the journal
	touched []*pending // by shard, in order of appearance
	ops     []*op      // those whose changes are in the batch
	flushed []*Shard   // those that were to get blocks, and do
}

func (w *txBuilder) reset() {
	w.batch.Reset()
	w.keys, w.entry = w.keys[:0], w.entry[:0]
	if cap(w.entry) > keptEntry {
		w.entry = nil
	}
	clear(w.touched)
	clear(w.ops)
	w.touched, w.ops, w.flushed = w.touched[:0], w.ops[:0], nil
}

// encode fills the batch with the group's records and operations, and blocks of the
// shards in flush.
func (w *txBuilder) encode(g *group, flush []*Shard) {
	w.prepare(g)
	w.collect(g.parts)
	for _, t := range w.touched {
		w.place(t)
	}
	if len(w.entry) > 0 {
		w.batch.Entry = w.entry
	}
	w.apply(g)
	w.flushed = flush
	for i, s := range flush {
		if w.full() || w.batch.Bytes >= groupBytes {
			w.flushed = flush[:i]
			w.log.mu.Lock()
			w.log.flush = append(w.log.flush, flush[i:]...)
			w.log.mu.Unlock()
			break
		}
		if t := w.pending(s); len(t.stored) == 0 && len(t.parts) == 0 {
			w.flush(t, nil)
		}
	}
}

// collect finishes the blocks of the parts and sorts them by shard.
func (w *txBuilder) collect(parts []*part) {
	for _, p := range parts {
		t := w.pending(p.shard)
		prev := p.shard.newest.last
		if n := len(t.parts); n > 0 {
			prev = t.parts[n-1].block.End() - 1
		}
		if p.block.IsZero() {
			p.block = p.b.Finish(prev)
		}
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
	n := &t.shard.newest // which changes only with the parts
	small := size < directBytes && size+n.gathered < flushBytes && n.gaps < maxGaps
	if t.due = !small && n.many(); small || t.due || w.full() {
		for _, p := range t.parts {
			w.entry = appendEntry(w.entry, t.shard.id, &p.block)
		}
		return
	}
	w.flush(t, t.parts)
}

// many reports whether the runs may be too many for one transaction that has more.
func (n *newest) many() bool { return n.gaps > maxGaps || n.gaps > 1 && n.gathered > flushBytes }

// flush stores blocks of the runs of a shard and of new parts. Without those it takes no
// more runs than the transaction has room for.
func (w *txBuilder) flush(t *pending, parts []*part) {
	closed := t.closeRuns()
	if len(parts) == 0 {
		n, inline := 0, 0
		for n < len(closed) && inline < maxInline {
			if size := closed[n].b.Size(); size <= kv.InlineValue {
				inline += size
			}
			n++
		}
		closed = closed[:n]
	}
	t.runs = len(closed)
	list := make([]*block.Block, 0, len(closed)+len(parts))
	for _, m := range closed {
		list = append(list, &m.b)
	}
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
			if n <= runs && size >= flushBytes {
				break // it is a block as it is, and retention removes whole ones
			}
			size += list[n].Len()
		}
		left -= size
		if n == i+1 && i >= runs {
			w.storePart(t, parts[i-runs])
			continue
		}
		if n == i+1 && !closed[i].tried {
			closed[i].tried = true
			w.store(t, &memBlock{b: list[i].Whole()})
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

// undo takes back what encode changed outside the batch, which was not stored.
func (w *txBuilder) undo() {
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
