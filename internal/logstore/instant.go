package logstore

import (
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// An append whose records are few is over when the journal has them: where the store does
// not make each commit durable, they survive the process there, as they would in a
// transaction. The writer makes them readable itself, and the committer need not know. That is
// not possible for a shard of which other records wait for a transaction: what is read
// would have a gap.

// appending is a call that appends, while it holds Log.mu. Its records join the open
// group, and leave it again when the journal has them.
type appending struct {
	log   *Log
	g     *group
	from  int  // its parts are those of the group from here on
	bytes int  // of the group before
	other bool // a shard has records that wait for a transaction
	none  bool // there is no record yet; set by begin
}

// beginAppend begins a call that adds records to the open group, with mu held.
func (l *Log) beginAppend() appending {
	return appending{log: l, g: l.open, from: len(l.open.parts), bytes: l.open.bytes, none: true}
}

// join is called before a record of the call is added to s.
func (a *appending) join(s *Shard) {
	a.none = false
	a.other = a.other || s.inFlight || s.part != nil && !s.part.own
}

// joined is called after that.
func (a *appending) joined(s *Shard) { s.part.own = !a.other }

// end is called when all records were added. It reports whether they are stored.
func (a *appending) end() bool {
	l, g := a.log, a.g
	own := g.parts[a.from:]
	large := false
	for _, p := range own {
		p.own = false
		large = large || p.b.Len() >= instantPart
	}
	if large || a.other || !l.direct || l.failure != nil || l.making || g.bytes-a.bytes > instantBytes || l.gathered > 2*maxJournal {
		return false
	}
	at, ok := l.note(own)
	if !ok {
		// The journal has no room, and the committer makes some. They stay parts of their
		// shards, so that what follows waits as well.
		l.checkJournal()
		return false
	}
	l.spare.expect(len(own))
	for i, p := range own {
		l.reveal(p, at)
		own[i] = nil
		l.spare.giveOne(p)
	}
	g.parts = g.parts[:a.from]
	g.bytes = a.bytes
	return true
}

// note adds the parts of a call to the journal, as one entry: a killed process leaves all
// of it or nothing. Each is of another shard, because instantBytes is less than a block.
// Mu is held.
func (l *Log) note(parts []*part) (at kv.Position, ok bool) {
	if cap(l.entry) > keptEntry {
		l.entry = nil
	}
	l.entry = l.entry[:0]
	var last []byte // is not copied
	for i, p := range parts {
		p.block = p.b.Finish(p.shard.newest.last)
		l.entry = appendPartHead(l.entry, p.shard.id, &p.block)
		if last = p.block.Encoded(block.None); i < len(parts)-1 {
			l.entry = append(l.entry, last...)
		}
	}
	return l.journal.Append(l.entry, last)
}

// reveal makes the records of a part readable, which the journal has at a position. Mu is held.
func (l *Log) reveal(p *part, at kv.Position) {
	s := p.shard
	if s.part == p {
		size := s.fullBytes + p.b.Len()
		s.part, s.fullBytes, s.expectedBytes = nil, 0, size+size/8
	}
	s.count(p)
	more := s.addRun(&p.block, at)
	s.gatheredMore()
	s.notify()
	l.use(s.usage, more)
}
