package badgerkv

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// With SyncWrites each batch is written to the redo log and synced there while
// Badger applies it without a sync. Both are done when Commit returns: what a
// process that is killed leaves is in Badger, and what a crash of the system takes
// from Badger is in the redo log. See docs/FORMAT.md.
//
// Batches that are large go to Badger alone, and the two files that they change
// are synced: writing them twice would cost more than the second sync.
//
// The journal is in the redo log, too, also without SyncWrites; see journal.go.

// redoLog is the redo log of a store in use.
type redoLog struct {
	ring *redo.Ring
	// synced says that each commit is.
	synced bool
	// largest is the size of a batch, in bytes, from which it is not written to the
	// redo log.
	largest int
	// aside is how many bytes went to Badger alone since it was advanced. Recovery
	// verifies their values, so it is advanced as well when they are more than most.
	aside atomic.Int64
	most  int64

	// mayLose says that what was not synced may be lost, because the system was started
	// again since it was written.
	mayLose bool
	// begun says that the ring is in use: until then it has what an earlier process left, or
	// nothing if it was made by this one.
	begun atomic.Bool
	made  bool
	// onDisk is the version up to which everything was on disk when the store was opened, 0 if
	// that is not known.
	onDisk uint64
	// id is whose ring it is; until it is in use.
	id        identity
	encrypted bool

	growing sync.Mutex // one call of grow; after advancing
	stopped bool       // with growing: the file is about to be closed

	needMu   sync.Mutex  // before the ring's
	needed   kv.Position // of the first entry that is
	promised uint64      // entries with lower numbers were made durable for somebody
	begunTo  uint64      // number behind the entries that the journal was begun with

	advancing sync.Mutex // one call of advance, and none while Close takes the files away

	kick chan struct{} // for the goroutine that advances it; one token
	quit chan struct{}
	done sync.WaitGroup
}

const (
	// redoLargest bounds what is written to both, in bytes. Where a second sync takes 150
	// microseconds, more are stored 1.3 to 1.5 times as fast by Badger alone, and a batch of half
	// that size takes twice as long at the median.
	redoLargest = 128 << 10
	// asideMost bounds what recovery has to read, in bytes.
	asideMost = 256 << 20
	// growWithin is how soon the ring has to be advanced again for it to be too small.
	growWithin = 300 * time.Millisecond
)

// takes reports whether the changes of a batch go to the redo log.
func (l *redoLog) takes(b *kv.Batch) bool {
	if !l.synced || !l.begun.Load() || b.Bytes > l.largest {
		return false
	}
	if _, size := l.ring.Use(); int64(b.Bytes+len(b.Entry)) > size/4 {
		l.wake() // it grows
		return false
	}
	return true
}

// bypassed notes that a batch went to Badger alone.
func (l *redoLog) bypassed(b *kv.Batch) {
	if l.aside.Add(int64(b.Bytes)) > l.most {
		l.wake()
	}
}

func (l *redoLog) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// run advances the ring in time, so that writers need not wait for room, and makes it
// larger. Where commits are not synced it is for others to call Sync, unless the ring has
// what was synced before.
func (l *redoLog) run(s *Store) {
	defer l.done.Done()
	var last time.Time
	for {
		select {
		case <-l.quit:
			return
		case <-l.kick:
		}
		if !l.synced || time.Since(last) < growWithin && l.aside.Load() <= l.most {
			l.grow(s, s.opts.RedoMax)
		}
		last = time.Now()
		var err error
		if l.synced {
			err = s.advance()
		} else if l.owes() {
			err = s.giveBack() // it may owe nothing by now
		}
		if err != nil {
			if !s.closed.Load() {
				s.warn("the redo log cannot be advanced", "error", err)
				l.ring.Fail(err)
			}
			return
		}
	}
}

// grow makes the ring larger, up to a limit, where the disk has room. One that is as large
// stays as it is.
func (l *redoLog) grow(s *Store, limit int64) bool {
	l.growing.Lock()
	defer l.growing.Unlock()
	if l.stopped {
		return false
	}
	to := l.ring.GrowsTo(limit)
	for to > 0 && s.space.check(to, false) != nil {
		to = l.ring.GrowsTo(to / 2) // 0 when that is no growth
	}
	if to == 0 {
		return false
	}
	n, err := l.ring.Grow(to)
	s.space.took(n)
	if err != nil {
		s.warn("the redo log cannot grow", "bytes", to, "error", err)
	}
	return n > 0 && err == nil
}

// stop ends the goroutine of run, and returns when nothing is advanced any more.
// The store is marked as closed.
func (l *redoLog) stop() {
	if l != nil {
		close(l.quit)
		l.done.Wait()
		l.advancing.Lock() // one that is under way ends first
		defer l.advancing.Unlock()
		l.growing.Lock()
		defer l.growing.Unlock()
		l.stopped = true
	}
}
