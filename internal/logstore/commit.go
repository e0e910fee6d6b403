package logstore

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// committer is the one writer of a log: it turns groups into transactions and
// publishes what they stored. Its fields are its goroutine's alone.
type committer struct {
	log *Log
	w   txBuilder // the transaction being built
	// expect is how many appends the next group would have if all writers
	// that the last one woke came back, and those that came meanwhile.
	expect int
	flush  []*Shard // those of takeFlush

	deadNoted, storedNoted int64 // bytes when Wake was called last
}

func (c *committer) run() {
	defer c.log.wg.Done()
	for {
		g, more := c.take()
		if !more {
			return
		}
		if g != nil {
			c.commit(g)
			c.log.mu.Lock()
			c.expect = g.calls + c.log.open.calls
			if g.err == nil {
				c.log.spare.give(g.parts)
			}
			c.log.mu.Unlock()
		}
		c.flushQueued()
		c.w.reset() // or an idle log would keep the values of its last group
	}
}

// flushQueued makes blocks of the shards that wait for that now, and logs what is to be.
func (c *committer) flushQueued() {
	c.log.mu.Lock()
	flush, steps := c.takeFlush(), c.log.steps
	c.log.steps = nil
	c.log.mu.Unlock()
	c.log.logSteps(steps)
	if len(flush) > 0 && c.transaction(new(group), flush) == nil {
		c.wakeOwner()
	}
}

// take waits for something to do and takes the open group, nil if it is empty: then
// there are shards of which blocks are to be made, or steps of the clock. There is no more
// when the log is closing.
func (c *committer) take() (g *group, more bool) {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open.empty() && len(l.flush) == 0 && len(l.steps) == 0 {
		if l.stopping {
			return nil, false
		}
		l.idle = true
		l.mu.Unlock()
		<-l.wake
		l.mu.Lock()
	}
	if !l.open.empty() {
		g = c.takeGroup()
	}
	return g, true
}

// takeGroup takes the open group, with mu held at entry and exit.
func (c *committer) takeGroup() *group {
	l := c.log
	c.gather()
	g := l.open
	l.open = l.newGroup()
	for _, p := range g.parts {
		s := p.shard
		s.inFlight = true
		if s.part == p {
			size := s.fullBytes + p.b.Len()
			s.part, s.fullBytes, s.expectedBytes = nil, 0, size+size/8
		}
	}
	if l.taken != nil {
		close(l.taken)
		l.taken = nil
	}
	return g
}

// takeFlush takes the shards of which blocks are to be made, with mu held. They are valid
// until the next call.
func (c *committer) takeFlush() []*Shard {
	l := c.log
	flush := append(c.flush[:0], l.flush...)
	c.flush = flush
	clear(l.flush)
	l.flush = l.flush[:0]
	return flush
}

// gather lets the writers that the last group woke come back before this one
// is taken, with mu held at entry and exit. Without it, the first of them
// would be committed alone and all others wait for the commit after. It yields
// to goroutines that are ready to run, for at most some microseconds after the
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
	w := &c.w
	if err := c.makeRoom(g); err != nil {
		c.fail(g, err)
		return
	}
	if err := c.transaction(g, nil); err != nil {
		c.fail(g, err)
		return
	}
	g.finish(nil)
	for _, o := range w.ops {
		if o.commit != nil {
			o.commit()
		}
		close(o.done)
	}
	close(g.done)
	c.wakeOwner()
}

// transaction commits a group and blocks of shards, and publishes them.
func (c *committer) transaction(g *group, flush []*Shard) error {
	w := &c.w
	w.reset()
	w.encode(g, flush)
	if len(w.batch.Ops) > 0 || w.batch.Entry != nil {
		if err := c.log.store.Commit(&w.batch); err != nil {
			w.undo()
			c.flushFailed(w.flushed, err)
			return err
		}
		c.log.mustSync()
	}
	w.publish()
	return nil
}

// flushFailed notes that no blocks were made of shards. They are tried again when more
// has come.
func (c *committer) flushFailed(flush []*Shard, err error) {
	l := c.log
	l.mu.Lock()
	for _, s := range flush {
		s.flushing, s.flushAt, s.flushGaps = false, s.newest.gathered+flushBytes, s.newest.gaps+maxGaps
	}
	if errors.Is(err, shardlog.ErrStorage) {
		l.failure = err
	}
	l.mu.Unlock()
	if len(flush) > 0 {
		l.logError("records of the journal cannot be made blocks", err)
	}
}

// makeRoom makes blocks of the oldest runs until the journal has room for what a group
// may put there.
func (c *committer) makeRoom(g *group) error {
	l := c.log
	n, large, many := 0, 0, len(g.parts) > manyParts || len(g.attachments) > 0
	for _, p := range g.parts {
		many = many || p.shard.newest.gaps > 0 // each is a block
		size := partHead + block.HeaderSize + p.b.Len() + p.b.Len()/8
		if p.b.Len() < directBytes {
			n += size
		} else {
			large += size
		}
	}
	if many {
		n += large // the transaction may have no room for so many blocks
	}
	if n == 0 || l.journal.Room(n) {
		return nil
	}
	making := func(yes bool) kv.Position {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.making = yes // or other records would take what the group needs
		return l.needed()
	}
	l.journal.Needed(making(true)) // what was removed since is not
	defer making(false)
	for !l.journal.Room(n) {
		l.mu.Lock()
		l.queueOldest()
		flush := c.takeFlush()
		l.mu.Unlock()
		if len(flush) == 0 {
			return &shardlog.Error{Op: "commit", RetryAfter: kv.RetryAfterFull, Err: fmt.Errorf("%w: the journal has no room for %d bytes", shardlog.ErrNoSpace, n)}
		}
		if err := c.transaction(new(group), flush); err != nil {
			return err
		}
	}
	return nil
}

// wakeOwner wakes the owner of the log when there is something for Reclaim.
func (c *committer) wakeOwner() {
	dead := c.log.dead.Load()
	stored := dead + c.log.live.Load()
	if dead-c.deadNoted >= wakeDead || stored-c.storedNoted >= wakeStored {
		c.deadNoted, c.storedNoted = dead, stored
		c.log.opts.Wake()
	}
	if dead-c.log.deadSeen.Load() > max(stallDead, c.log.live.Load()/8) {
		c.log.requireOwner()
	}
}

// fail ends a group with an error. Records that wait in the next group go with
// it: they may have been accepted on the condition that these are stored.
func (c *committer) fail(g *group, err error) {
	if errors.Is(err, shardlog.ErrStorage) {
		err = fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, err)
	}
	l := c.log
	l.mu.Lock()
	next := l.open
	l.open = l.newGroup()
	if l.taken != nil {
		close(l.taken)
		l.taken = nil
	}
	for _, p := range append(g.parts, next.parts...) {
		s := p.shard
		// The numbers given out are not used again, so that nobody can
		// mistake another record for the one that failed.
		s.part, s.fullBytes, s.lastAssigned, s.inFlight = nil, 0, s.newest.last, false
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
	g.finish(err)
	next.finish(err)
	g.err, next.err = err, err
	close(g.done)
	close(next.done)
}
