package logstore

import (
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// An append whose records are few is over when the journal has them: where the store does
// not make each commit durable, they survive the process there, as they would in a
// transaction. The writer makes them readable itself, and the committer need not know. That is
// not possible for a shard of which other records wait for a transaction: what is read
// would have a gap.
//
// The records are encoded where the runs of their shards end, behind what readers see,
// and copied to the journal from there. Where a run has no memory for them, the rest
// becomes a part, which begins a larger one. If anything is in the way, all is taken
// back, and the records join the open group.

// instant is what a call appends to one shard, with Log.mu held.
type instant struct {
	shard *Shard
	run   block.Addition // the records that the run has memory for
	inRun bool           // there are some
	part  *part          // the others; nil for none
	next  uint64         // counter of the next record
	bytes int64          // records' sizes as users count them
}

// mayBeInstant reports whether an append may be over when the journal has it. Mu is held.
func (l *Log) mayBeInstant() bool {
	return l.direct && l.failure == nil && !l.making && l.gathered <= 2*maxJournal
}

// beginInstant returns what the call that holds mu appends to s, nil if records of s wait
// for a transaction.
func (l *Log) beginInstant(s *Shard, ms int64) *instant {
	if s.part != nil || s.inFlight {
		return nil
	}
	s.arrive(ms)
	l.instants = append(l.instants, instant{shard: s, next: s.next})
	s.instant = len(l.instants)
	a := &l.instants[s.instant-1]
	if g := s.newest.more; g != nil && g.b.End() == s.next && g.b.Len() < blockBytes && len(g.parts) < cap(g.parts) {
		a.run, a.inRun = g.b.Add(s.lastMs)
	}
	return a
}

// add adds a record.
func (a *instant) add(r *shardlog.Record) {
	a.bytes += int64(r.Size())
	if a.part == nil && a.inRun && a.run.Record(r) {
		a.next++
		return
	}
	p := a.partFor(block.EncodedSize(r))
	p.b.Append(r, a.shard.lastMs)
}

// addEncoded is add for a record that is encoded already.
func (a *instant) addEncoded(it *block.Encoded) {
	a.bytes += int64(it.Size())
	if a.part == nil && a.inRun && a.run.Encoded(it) {
		a.next++
		return
	}
	p := a.partFor(it.EncodedSize())
	p.b.AppendEncoded(it, a.shard.lastMs)
}

// partFor returns the part, which gets the next record, of a size.
func (a *instant) partFor(size int) *part {
	if a.part == nil {
		if a.inRun && a.run.Len() == 0 {
			a.run.Undo()
			a.inRun = false
		}
		s := a.shard
		a.part = s.log.spare.take(s, a.next, max(size, min(s.expectedBytes, instantPart)))
	}
	a.next++
	return a.part
}

// len returns the bytes of the records.
func (a *instant) len() (n int) {
	if a.inRun {
		n = a.run.Len()
	}
	if a.part != nil {
		n += a.part.b.Len()
	}
	return n
}

// appendOneInstantly is AppendOne for a record that can be over when the journal has it,
// with mu held; ok is false if it cannot, and nothing was done.
func (l *Log) appendOneInstantly(s *Shard, r *shardlog.Record, ms int64) (seq shardlog.SequenceNumber, ok bool) {
	if !l.mayBeInstant() || r.Size() > instantPart {
		return seq, false
	}
	a := l.beginInstant(s, ms)
	if a == nil {
		return seq, false
	}
	a.add(r)
	if !l.endInstants() {
		return seq, false
	}
	return s.sequence(s.lastAssigned, s.lastMs), true
}

// appendInstantly is appendOneInstantly for the records of a call from one on, all of
// them.
func (l *Log) appendInstantly(in *input, targets []*Shard, res []shardlog.PutResult, from int, ms int64) bool {
	if !l.mayBeInstant() || in.exceeds(from, instantBytes) {
		return false
	}
	var it block.Encoded
	for i := from; i < in.len(); i++ {
		s := targets[i]
		if s.closed {
			res[i] = shardlog.PutResult{Err: shardlog.ErrShardClosed}
			continue
		}
		var a *instant
		if s.instant > 0 {
			a = &l.instants[s.instant-1]
		} else if a = l.beginInstant(s, ms); a == nil {
			l.undoInstants()
			return false
		}
		res[i] = shardlog.PutResult{ShardID: s.name, Sequence: s.sequence(a.next, s.lastMs)}
		if in.run == nil {
			a.add(&in.records[i])
		} else {
			in.run.At(i, &it)
			a.addEncoded(&it)
		}
	}
	return len(l.instants) == 0 || l.endInstants()
}

// exceeds reports whether the records from one on may take more than n bytes.
func (in *input) exceeds(from, n int) bool {
	var it block.Encoded
	for i := from; i < in.len() && n >= 0; i++ {
		if in.run == nil {
			n -= block.EncodedSize(&in.records[i])
		} else {
			in.run.At(i, &it)
			n -= it.EncodedSize()
		}
	}
	return n < 0
}

// endInstants adds the records to the journal, as one entry: a killed process leaves all
// of it or nothing. Then it makes them readable; or takes them back. Mu is held.
func (l *Log) endInstants() bool {
	heads, pieces := l.entry[:0], l.pieces[:0]
	for i := range l.instants {
		a := &l.instants[i]
		id := a.shard.id
		if a.len() >= instantPart {
			l.forget(heads, pieces)
			l.undoInstants()
			return false
		}
		if a.inRun {
			from := len(heads)
			var records []byte
			heads, records = appendBareHead(heads, id, &a.run)
			pieces = append(pieces, heads[from:], records)
		}
		if p := a.part; p != nil {
			prev := a.shard.newest.last
			if a.inRun {
				prev = a.run.End() - 1
			}
			p.block = p.b.Finish(prev)
			from := len(heads)
			heads = appendPartHead(heads, id, uint32(p.block.Size()))
			pieces = append(pieces, heads[from:], p.block.Encoded(block.None))
		}
	}
	at, ok := l.journal.Append(pieces...)
	l.forget(heads, pieces)
	if !ok {
		// The committer makes room. What follows waits as well.
		l.undoInstants()
		l.checkJournal()
		return false
	}
	parts := 0
	for i := range l.instants {
		if l.instants[i].part != nil {
			parts++
		}
		l.instants[i].end(at)
	}
	l.spare.expect(parts)
	l.dropInstants()
	return true
}

// forget keeps the memory of an entry, and nothing that it refers to.
func (l *Log) forget(heads []byte, pieces [][]byte) {
	clear(pieces)
	if cap(heads) > keptEntry {
		heads, pieces = nil, nil
	}
	l.entry, l.pieces = heads, pieces
}

// end makes the records readable, which the journal has at a position. Mu is held.
func (a *instant) end(at kv.Position) {
	s := a.shard
	records := a.next - s.next
	s.next, s.lastAssigned = a.next, a.next-1
	s.stats.recordsIn.Add(int64(records))
	s.stats.bytesIn.Add(a.bytes)
	more := int64(0)
	if a.inRun {
		b := a.run.Added()
		s.addingToJournal(&b)
		more = s.show(&b, a.run.Grown())
	}
	if p := a.part; p != nil {
		size := p.b.Len()
		s.expectedBytes = size + size/8
		more += s.addRun(&p.block, at)
		s.log.spare.giveOne(p)
	}
	s.gatheredMore()
	s.notify()
	s.log.use(s.usage, more)
}

// undoInstants takes back what the call that holds mu has added.
func (l *Log) undoInstants() {
	for i := range l.instants {
		a := &l.instants[i]
		if a.inRun {
			a.run.Undo()
		}
		if a.part != nil {
			l.spare.giveOne(a.part)
		}
	}
	l.dropInstants()
}

// dropInstants ends the call's use of instants, with mu held.
func (l *Log) dropInstants() {
	for i := range l.instants {
		l.instants[i].shard.instant = 0
	}
	clear(l.instants)
	if l.instants = l.instants[:0]; cap(l.instants) > keptInstants {
		l.instants = nil
	}
}
