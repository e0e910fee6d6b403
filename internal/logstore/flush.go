package logstore

import "github.com/shardlog/shardlog/internal/kv"

// What is only in the journal becomes blocks when a shard has enough of it, or when the
// journal has too much. The committer does that while the shard takes more records:
// those go to another run.

// gatheredMore is called with mu held after records were added to the runs of s, and has
// the committer make blocks of them if they are enough.
func (s *Shard) gatheredMore() {
	if s.newest.gathered >= s.flushAt || s.newest.gaps >= s.flushGaps {
		s.log.queueFlush(s)
	}
}

// addedToJournal is called with mu held after bytes were added to the journal.
func (l *Log) addedToJournal(size int) {
	if l.added += int64(size); l.added >= checkBytes {
		l.checkJournal()
	}
}

// queueFlush has the committer make blocks of the runs of s, with mu held.
func (l *Log) queueFlush(s *Shard) {
	if !s.flushing {
		s.flushing = true
		l.flush = append(l.flush, s)
		l.wakeCommitter()
	}
}

// checkJournal keeps the journal in its bounds, with mu held: the shards whose records
// are in the oldest part of it get blocks, however small.
func (l *Log) checkJournal() {
	l.added = 0
	used, most := l.journal.Use()
	if used <= most/2 && l.gathered <= maxJournal {
		return
	}
	l.queueOldest()
}

// queueOldest queues the shards whose runs began in the oldest quarter of the journal,
// with mu held.
func (l *Log) queueOldest() {
	first := l.needed().Seq
	upto := first + (l.journal.End().Seq-first)/4
	for _, ref := range l.runs {
		if ref.at.Seq > upto {
			break
		}
		if !ref.gone {
			l.queueFlush(ref.shard)
		}
	}
}

// needed returns from where on the journal is needed, with mu held.
func (l *Log) needed() (p kv.Position) {
	n := 0
	for n < len(l.runs) && l.runs[n].gone {
		l.runs[n] = nil
		n++
	}
	if l.runs = l.runs[n:]; len(l.runs) > 0 {
		return l.runs[0].at
	}
	return l.journal.End()
}

// closeRuns ends the runs of a shard, so that blocks can be made of them while it takes
// more records.
func (t *pending) closeRuns() []*memBlock {
	s := t.shard
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	v := s.view()
	if !v.run.b.IsZero() {
		c := *v
		c.closeRun()
		s.set(&c)
		v = &c
	}
	return v.mem[len(v.mem)-v.gaps:]
}
