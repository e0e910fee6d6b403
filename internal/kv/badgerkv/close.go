package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Badger's Close writes the memtable to a table. Where it cannot, it tries again
// once a second without end, and on a full disk the write through a mapping
// kills the process. All that the memtable holds is in the write-ahead log as
// well, so nothing is lost without that flush: the next Open reads the log. So
// Close checks first whether a flush will succeed, and otherwise leaves Badger as
// it is and returns why.

const (
	// flushRoom is what is needed apart from tables.
	flushRoom = 2 << 20
	// tableRoom is more than a memtable needs as a table.
	tableRoom = 2 * memTableSize
	// mergeRoom bounds what is added for a compaction that begins meanwhile,
	// which writes as much as the tables have that it reads.
	mergeRoom = 64 << 20
	// goneWait bounds how long Close waits for Badger when the directory is gone;
	// Badger tries a flush again once a second.
	goneWait = 10 * time.Second
	// jamWait is how long Close waits for Badger where that may never end, to let
	// it write what it has in memory.
	jamWait = 3 * time.Second
	// retryClose is how often a store that could not be closed is tried again.
	retryClose = time.Second
)

// Close implements kv.Store. It reports a failed sync, also an earlier one.
//
// If the directory cannot be written to, or the disk is full, Close returns an
// error that wraps shardlog.ErrStorage or shardlog.ErrNoSpace and does not wait
// for that to change. All that was committed is in the write-ahead log. The
// directory stays locked until it can be written to, which a goroutine waits
// for, or the process ends.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.pager.close()
	s.redo.stop()
	s.txMu.Lock()
	defer s.txMu.Unlock()
	s.mapMu.Lock()
	defer s.mapMu.Unlock()
	s.blocks.close()
	s.newest.close()
	defer s.places.close()
	err := s.flushable()
	switch {
	case err == nil:
		return s.closeBadger()
	case errors.Is(err, errGone):
		s.closeGone()
	default:
		go s.closeLater()
	}
	return err
}

// closeGone closes Badger although its directory was removed, so that its
// goroutines and mappings do not stay: it gives Badger an empty directory to
// write its tables to, which is removed again. It does not do so where another
// directory has taken the place of the old one.
func (s *Store) closeGone() {
	dir := s.opts.Dir
	if err := os.Mkdir(dir, 0o700); err != nil {
		return
	}
	unlock, err := lockDir(dir) // nobody opens it meanwhile
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = errors.Join(s.db.Close(), s.closeRedo(false)) // that the files are gone is reported already
		_ = errors.Join(os.RemoveAll(dir), unlock())
	}()
	select {
	case <-done:
	case <-time.After(goneWait):
	}
}

// errGone: the directory was removed, or another has taken its place.
var errGone = fmt.Errorf("%w: the directory was removed or replaced", shardlog.ErrStorage)

// flushable returns why Badger could not write its memtable now, nil if it
// can. It leaves the inventory saying that the store is being closed.
func (s *Store) flushable() error {
	dir := s.opts.Dir
	if fi, err := os.Stat(dir); err != nil || !os.SameFile(fi, s.dir) {
		return fmt.Errorf("%w: %s", errGone, dir)
	}
	wals, err := numbered(dir, ".mem")
	if err != nil {
		return fmt.Errorf("%w: not closed in order: %w", shardlog.ErrStorage, err)
	}
	need := flushRoom + int64(len(wals))*tableRoom + min(diskBytes(dir, ".sst"), mergeRoom)
	if free, err := s.space.free(); err == nil && free < need {
		return fmt.Errorf("%w: not closed in order: %d bytes are free in %s, and %d are needed; all that was written is in the write-ahead log", shardlog.ErrNoSpace, free, dir, need)
	}
	err = s.noteState(badgerfile.StateClosing)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: not closed in order: %v", shardlog.ErrNoSpace, err)
	}
	return fmt.Errorf("%w: not closed in order: %v; all that was written is in the write-ahead log", shardlog.ErrStorage, err)
}

// closeBadger closes Badger, and stops waiting for that if a flush fails.
func (s *Store) closeBadger() error {
	done := make(chan error, 1)
	go func() {
		done <- s.closeFiles()
	}()
	var jam <-chan time.Time
	if s.log.jammed.Load() {
		jam = time.After(jamWait)
	}
	heldUp, stop := s.heldUp()
	defer stop()
	select {
	case err := <-done:
		return err
	case <-heldUp:
		return fmt.Errorf("%w: not closed in order: a compaction waits for room in %s; all that was written is in the write-ahead log", shardlog.ErrNoSpace, s.opts.Dir)
	case <-jam:
		return fmt.Errorf("%w: the storage engine cannot be closed after it failed to read a damaged value; all that was written is on disk, and the directory stays locked until the process ends", shardlog.ErrCorrupt)
	case <-s.log.flushFailed:
		return fmt.Errorf("%w: not closed in order: %w; all that was written is in the write-ahead log", shardlog.ErrStorage, s.log.failure())
	}
}

// closeFiles closes Badger and the redo log, and notes that they were closed in
// order.
func (s *Store) closeFiles() error {
	err := s.syncFiles() // the redo log says then that Badger has everything on disk
	if err != nil {
		err = s.failed(err)
	}
	if err = errors.Join(err, s.db.Close()); err == nil {
		err = s.log.failure()
	}
	err = errors.Join(err, s.closeRedo(err == nil))
	if err == nil {
		err = s.noteState(badgerfile.StateClean)
	}
	return err
}

// heldUp returns a channel that is closed when a compaction has waited for
// gateLimit, and a function that ends the watch.
func (s *Store) heldUp() (ch <-chan struct{}, stop func()) {
	held, quit := make(chan struct{}), make(chan struct{})
	go func() {
		tick := time.NewTicker(gateEvery)
		defer tick.Stop()
		for n := time.Duration(0); n < gateLimit; n += gateEvery {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			if !s.log.gate.shut() {
				n = 0
			}
		}
		close(held)
	}()
	return held, func() { close(quit) }
}

// closeLater waits until the store can be closed, and closes it. It gives up
// when the directory has gone.
func (s *Store) closeLater() {
	for {
		time.Sleep(retryClose)
		err := s.flushable()
		if err == nil {
			err = s.closeBadger()
			if s.opts.Logger != nil && err != nil {
				s.opts.Logger.Error("shardlog: closing the store later failed", "error", err)
			}
			return
		}
		if errors.Is(err, errGone) {
			return
		}
	}
}
