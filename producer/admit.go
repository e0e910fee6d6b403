package producer

import (
	"slices"

	"github.com/shardlog/shardlog"
)

// prepared is what is known of a record before the lock is taken.
type prepared struct {
	size              int
	hash              uint64 // of the partition key; not set by a producer that packs, which rarely needs it
	explicit, keyless bool
	extras            *extras
}

// enter makes an entry of a record. Wait says that it has to wait for room,
// as mustWait does; where block is not set that is an error. The caller calls
// onArrival, or, if the entry waits, planTimer.
func (c *core) enter(r *shardlog.Record, in *prepared, wait, block bool, now int64) (*entry, error) {
	if c.life != stateOpen {
		return nil, c.closedError()
	}
	if wait && !block {
		c.stats.rejected++
		return nil, ErrBufferFull
	}
	e := c.buffer.newEntry()
	e.key, e.hashKey, e.data, e.size, e.hash = r.PartitionKey, r.ExplicitHashKey, r.Data, in.size, in.hash
	switch n := len(r.Data); {
	case n == 0 || c.conf.BorrowData:
	case n <= smallData:
		e.data, e.chunk = c.buffer.copyData(r.Data)
	case n <= pageData && c.conf.packs: // else the caller has copied it
		e.data = slices.Clone(r.Data)
	}
	e.explicit, e.keyless, e.extras = in.explicit, in.keyless, in.extras
	if wait {
		c.buffer.waiting.push(e)
	} else {
		c.accept(e, now)
	}
	return e, nil
}

// onArrival starts a sender for a record of a size, which was just accepted, if
// it may go. It is called for every record, so it first excludes the usual case that nothing
// changes: it is not the first that is ready, does not fill a request, and may
// linger. See nextNewDue.
func (c *core) onArrival(size int, now int64) {
	n, bytes, most := c.buffer.readyRecords(), c.buffer.readyBytes(), c.conf.MaxBatchBytes
	if n > 1 && (c.flight.senders > 0 || c.buffer.seq > c.sched.flushUpTo) &&
		n%c.conf.fullRequest != 0 && (bytes-size)/most == bytes/most {
		return
	}
	c.startSender(now)
	c.planTimer(now)
}

// rush lets the entries up to a number go without lingering, now.
func (c *core) rush(seq uint64, now int64) {
	c.flushThrough(seq)
	c.startSender(now)
	c.planTimer(now)
}

// withdraw removes an entry that waits for room. The next one may be smaller,
// and have room.
func (c *core) withdraw(e *entry, now int64) {
	c.buffer.waiting.remove(e)
	c.advance(now)
}

// refuseFrom gives the records of w from index i on, which have no entries, their
// error.
func (c *core) refuseFrom(w *waiter, i int, err error) {
	for j := i; j < len(w.out); j++ {
		w.out[j] = outcome{set: true, err: err}
		c.noteResult(w)
	}
}

// addFlush makes a flush of what is in the buffer.
func (c *core) addFlush(resultsOnly bool) *flush {
	f := &flush{seq: c.buffer.seq, left: c.buffer.records, resultsOnly: resultsOnly, ch: make(chan struct{})}
	if resultsOnly {
		f.left = c.buffer.undecided
	}
	if f.left == 0 {
		close(f.ch)
	} else {
		c.outbox.flushes = append(c.outbox.flushes, f)
	}
	return f
}

// drain begins a shutdown: nothing new is taken, and the rest does not linger.
func (c *core) drain() {
	if c.life != stateOpen {
		return
	}
	c.life = stateDraining
	c.flushThrough(1<<64 - 1)
	c.refuseWaiting()
}

// closeNow gives every record without a result one. It returns how many of
// these are not known to be stored, and how many of them may be.
func (c *core) closeNow(now int64) (left, inDoubt int) {
	if c.life == stateClosed {
		return 0, 0
	}
	c.life = stateClosed
	c.refuseWaiting()
	c.unpack()
	for e := c.buffer.age.oldest; e != nil; e = c.buffer.age.oldest {
		switch {
		case e.state == resultHeld && e.outcome.err == nil:
		case e.state == resultHeld:
			left++
			if isUnknown(e.outcome.err) {
				inDoubt++
			}
		default:
			left++
			if e.mayBeStored() {
				inDoubt++
			}
		}
		c.giveUp(e, lastAttempt(shardlog.ErrClosed, e))
	}
	c.setTimer(0)
	c.effects.cancel = true
	c.advance(now)
	return left, inDoubt
}
