package badgerkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Badger writes through mappings of files that have no blocks on the disk yet.
// If another program has taken the last block by then, the write is a SIGBUS,
// which ends the process. So the blocks that a commit needs are allocated before
// it, where a full disk is an error:
//
//   - those of the value log some way ahead of the writer;
//   - those of the log of a memtable soon after it was begun.
//
// Badger makes tables, and the first pages of other files, in one go, so they
// cannot be allocated before. They are made only while there is room for
// many times as much: see spaceGuard.check and gate.

const (
	// reserveStep is how much of the value log is allocated in one call, at most.
	reserveStep = 4 << 20
	// walRoom is more than the log of a memtable gets: Badger begins another when
	// this one has memTableSize, and one transaction takes a sixth of that.
	walRoom = memTableSize * 3 / 2
	// discardRoom is enough for 4,096 value log files.
	discardRoom = 64 << 10
	// lookEvery is how many bytes go into memtables, at most, until it is looked
	// whether another has begun.
	lookEvery = 16 << 10
	// memOverhead is more than what a change takes in a memtable in addition to key and
	// value.
	memOverhead = 200
)

// reserve allocates what commits need. Its fields are guarded by Store.txMu.
type reserve struct {
	dir   string
	limit int64 // a value log file is full at about this size
	step  int64
	off   bool          // the file system cannot allocate
	taken func(n int64) // gets what is allocated

	f    *os.File // the value log file that is written to; nil when not known
	file uint64
	seen int64 // the writer has come at least this far
	at   int64 // and at most this far
	end  int64 // allocated up to here

	// removed says that value log files may have been removed, also one that is newer.
	removed bool
	// moving is what value log GC may write meanwhile to the same file, without
	// the lock; 0 while none runs.
	moving int64

	mem int64  // bytes that went into memtables since it was looked, at most
	wal uint64 // the log that was allocated last; 0 for none
}

func newReserve(o Options, taken func(int64)) *reserve {
	return &reserve{taken: taken, dir: o.Dir, limit: o.ValueLogFile, step: min(reserveStep, o.ValueLogFile/4), off: !canAllocate, mem: lookEvery}
}

// forCommit allocates what a batch needs; large is how much of it goes to the
// value log, at most. The error wraps shardlog.ErrNoSpace.
func (r *reserve) forCommit(b *kv.Batch, large int64) error {
	if r.off {
		return nil
	}
	r.mem += int64(b.Inline) + int64(len(b.Ops)+1)*memOverhead
	if r.mem >= lookEvery {
		if err := r.failed(r.memtables()); err != nil {
			return err
		}
	}
	if large > 0 && (r.f == nil || r.at+large > r.end || r.at >= r.limit || r.moving > 0) {
		if r.moving > 0 {
			r.at = r.end
		}
		if err := r.failed(r.values(large + r.moving)); err != nil {
			return err
		}
	}
	r.at += large
	return nil
}

// forRewrite allocates what value log GC writes when it moves the living part of
// a file.
func (r *reserve) forRewrite(part float64) error {
	if r.off {
		return nil
	}
	if err := r.failed(r.memtables()); err != nil {
		return err
	}
	moving := int64(part*float64(r.limit)) + r.step
	if err := r.failed(r.values(moving)); err != nil {
		return err
	}
	r.moving = moving
	return nil
}

// rewritten notes that value log GC has ended. It may have written as much as was
// allocated, and has written to a memtable.
func (r *reserve) rewritten() { r.at, r.moving, r.mem, r.removed = r.end, 0, lookEvery, true }

// failed converts an error of the file system. One that cannot allocate is not
// asked again.
func (r *reserve) failed(err error) error {
	switch {
	case err == nil:
		return nil
	case isFull(err):
		return &shardlog.Error{Op: "commit", RetryAfter: kv.RetryAfterFull, Err: fmt.Errorf("%w: %v", shardlog.ErrNoSpace, err)}
	case errors.Is(err, fs.ErrNotExist):
		return nil // the directory has gone, which Badger reports
	}
	r.off = true
	return nil
}

// values allocates the value log ahead of the writer: n bytes, and a step if there
// is room and the file is not full then. Badger gives back what is behind the end of
// a file that is full while the writer waits, and some systems tell the disk.
func (r *reserve) values(n int64) error {
	if err := r.follow(); err != nil {
		return err
	}
	// What the writer has reached is data, and what is only allocated is a hole,
	// unless the system has read ahead there.
	if hole, err := seekHole(r.f, r.seen); err == nil {
		r.seen, r.at = hole, min(r.at, hole)
	}
	r.at = min(r.at, r.limit) // or Badger would have begun another file
	if r.at+n <= r.end {
		return nil
	}
	least := r.at + n
	to := max(least, min(least+r.step, r.limit))
	err := allocate(r.f, r.end, to-r.end)
	if isFull(err) {
		to = least
		err = allocate(r.f, r.end, to-r.end)
	}
	if err == nil {
		r.taken(to - r.end)
		r.end = to
	}
	return err
}

// follow opens the newest value log file if that is another now.
func (r *reserve) follow() error {
	if r.f != nil && !r.removed && !exists(valuePath(r.dir, r.file+1)) {
		return nil
	}
	logs, err := numbered(r.dir, ".vlog")
	if err != nil {
		return err
	}
	r.removed = false
	if len(logs) == 0 {
		return fs.ErrNotExist
	}
	newest := logs[len(logs)-1]
	if r.f != nil && r.file == newest.number {
		return nil
	}
	r.closeValues()
	f, err := os.OpenFile(newest.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.f, r.file, r.at, r.end = f, newest.number, fi.Size(), 0
	r.seen = 0
	return nil
}

func (r *reserve) closeValues() {
	if r.f != nil {
		_ = r.f.Close() // nothing was written through it
		r.f = nil
	}
}

// memtables allocates the log of the memtable if that is another now.
func (r *reserve) memtables() error {
	if r.wal != 0 && newestLog(r.dir, r.wal) {
		r.mem = 0
		return nil
	}
	wals, err := numbered(r.dir, ".mem")
	if err != nil {
		return err
	}
	if len(wals) == 0 {
		return fs.ErrNotExist
	}
	if r.wal == 0 {
		// Compactions write to the statistics as well.
		if err := allocateFile(filepath.Join(r.dir, badgerfile.DiscardName), discardRoom); err != nil {
			return err
		}
	}
	newest := wals[len(wals)-1]
	if err := allocateFile(newest.path, walRoom); err != nil {
		return err
	}
	r.taken(walRoom)
	r.wal, r.mem = newest.number, 0
	return nil
}

// allocateFile allocates the first n bytes of a file, and does not change its size.
func allocateFile(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(allocate(f, 0, n), f.Close())
}

// close ends the use of files. Nothing was written through them.
func (r *reserve) close() {
	r.off = true
	r.closeValues()
}

func valuePath(dir string, number uint64) string {
	return filepath.Join(dir, badgerfile.ValueName(number))
}
