package logstore

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/shardlog/shardlog"
)

// committer is the one writer of a log: it turns groups into transactions and
// publishes what they stored. Its fields are its goroutine's alone.
type committer struct {
	log *Log
	w   txBuilder // the transaction being built
	// expect is how many appends the next group would have if all writers
	// that the last one woke came back, and those that came meanwhile.
	expect int

	deadNoted, storedNoted int64 // bytes when Wake was called last
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
		if g.err == nil {
			c.log.spare.give(g.parts)
		}
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
	l.open = l.newGroup()
	for _, p := range g.parts {
		if p.shard.part == p {
			s := p.shard
			size := s.fullBytes + p.b.Len()
			s.part, s.fullBytes, s.expectedBytes = nil, 0, size+size/8
		}
	}
	if l.taken != nil {
		close(l.taken)
		l.taken = nil
	}
	l.mu.Unlock()
	return g
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
	w.reset()
	w.encode(g)
	if err := c.log.store.Commit(&w.batch); err != nil {
		c.fail(g, w, err)
		return
	}
	w.publish()
	g.finish(nil)
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
func (c *committer) fail(g *group, w *txBuilder, err error) {
	if errors.Is(err, shardlog.ErrStorage) {
		err = fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, err)
	}
	l := c.log
	w.undo()
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
		s.part, s.fullBytes, s.lastAssigned = nil, 0, s.newest.last
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
