package badgerkv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Badger reclaims a value log file when enough of it is known to be dead, and
// it learns this only when a compaction meets the newer version or tombstone of
// a key. With blocks as values a memtable of keys stands for hundreds of
// megabytes of values, so nothing would be known for a long time, and nothing
// at all in an idle database. Three measures bound the disk:
//
//   - the memtable and level zero are small;
//   - when enough has been deleted, filler keys push the memtable out;
//   - files that are nearly all dead are removed immediately, and if the value log
//     is still too large for what is live, the deadest are rewritten.

const (
	// FillerPrefix begins the keys of filler.
	FillerPrefix = badgerfile.OwnPrefix
	fillerValue  = 900 // below the value threshold, so that it fills the memtable

	// deadRatio picks files that cost next to nothing to remove; moveRatio
	// those worth copying the living half of.
	deadRatio = 0.98
	moveRatio = 0.5
	// budget is how large the value log may be, in parts of what is live,
	// before living values are copied.
	budgetNum, budgetDen = 13, 10
	maxMoves             = 4 // files rewritten in one call

	// adviseEvery is how many bytes are committed between two calls of advise.
	adviseEvery = 32 << 20
)

// maxIdle is how many calls without progress show that another one would not
// help: a compaction follows a rotation within some hundred milliseconds.
const maxIdle = 8

// Reclaim implements kv.Store.
func (s *Store) Reclaim(live, dead int64) (more, moved bool, err error) {
	if err := s.usable(); err != nil {
		return false, false, err
	}
	s.advise()
	file, g := s.opts.ValueLogFile, &s.gc
	slack := diskBytes(s.opts.Dir, ".vlog") - live
	quiet := dead == g.last
	g.last = dead
	if slack <= file {
		return false, false, nil
	}
	if s.opts.SyncWrites && s.durable.Load() < s.ts.Load() {
		if err := s.advance(); err != nil {
			return false, false, err
		}
	}
	s.dropVersions()
	g.idle++
	if due := dead - g.rotated; due > max(file/2, live/12) || (quiet && due > 0) {
		if err := s.rotate(); err != nil {
			return false, false, err
		}
		g.rotated, g.idle = dead, 0
	}
	for {
		ok, err := s.collect(deadRatio)
		if err != nil {
			return false, moved, err
		}
		if !ok {
			break
		}
		g.idle, moved = 0, true
	}
	for range maxMoves {
		if diskBytes(s.opts.Dir, ".vlog") < live*budgetNum/budgetDen+2*file || !s.space.roomToMove() {
			break
		}
		ok, err := s.collect(moveRatio)
		if err != nil {
			return false, moved, err
		}
		if !ok {
			break
		}
		g.idle, moved = 0, true
	}
	return g.idle < maxIdle, moved, nil
}

// advise takes the value log out of the resident memory now and then. While
// it runs no mapping may come or go: commits wait, scans have ended,
// and files are removed only by Reclaim, which calls it.
func (s *Store) advise() {
	if s.gc.written.Load() < adviseEvery {
		return
	}
	s.txMu.Lock()
	defer s.txMu.Unlock()
	if !s.mapMu.TryLock() {
		return // a scan may take long, and commits must not wait for it
	}
	defer s.mapMu.Unlock()
	s.gc.written.Store(0)
	if !s.closed.Load() {
		adviseMappings(s.opts.Dir)
	}
}

// collect removes or rewrites one value log file; ok is false when there was
// none to take.
//
// Badger removes the file once the values that live have been copied. What it
// held may have been synced: so must the copies be, and the deletions of what
// was not copied, before the file goes. Badger waits with that for iterators that
// are open. If the sync fails, or values that Badger has left in the file cannot
// be copied, the iterator stays open, and the file.
//
// The place of a copy may become durable before the copy. Recovery finds the original
// then.
func (s *Store) collect(ratio float64) (ok bool, err error) {
	txn := s.db.NewTransactionAt(newest, false)
	it := txn.NewIterator(badger.IteratorOptions{})
	err = s.rewrite(ratio)
	took := err == nil
	if took {
		if err := s.rescue(); err != nil {
			return false, err
		}
		if err := s.syncFiles(); err != nil {
			return false, s.failed(err)
		}
		if err := s.log.failure(); err != nil {
			return false, err
		}
	}
	it.Close()
	txn.Discard()
	switch {
	case took:
		return true, s.places.forget()
	case errors.Is(err, badger.ErrNoRewrite), errors.Is(err, badger.ErrRejected):
		return false, nil
	}
	// A file that vanished or was marked before is picked again next time.
	return false, s.log.failure()
}

// rewrite runs Badger's value log GC on one file.
//
// Badger begins by reading the newest version of a memtable that a commit may be
// writing to, without synchronization (DB.MaxVersion in v4.9.6). It reads one
// aligned word, and either value will do: the version is the one up to which
// compaction may drop tombstones during the rewrite, and a lower one keeps more.
// The race detector cannot know that, so under it no commit runs meanwhile.
func (s *Store) rewrite(ratio float64) error {
	if err := s.reserveRewrite(ratio); err != nil {
		return err
	}
	defer func() {
		s.txMu.Lock()
		defer s.txMu.Unlock()
		s.blocks.rewritten()
		s.newest.log.close() // the one behind it may be removed, and not the newest
	}()
	if raceDetector {
		s.txMu.Lock()
		defer s.txMu.Unlock()
	}
	s.gcMu.Lock()
	defer s.gcMu.Unlock()
	if s.opts.ValueLogFile < smallFile {
		// What it copies in one batch may be too large for a file; see remaps.
		s.mapMu.Lock()
		defer s.mapMu.Unlock()
	}
	return s.db.RunValueLogGC(ratio)
}

func (s *Store) reserveRewrite(ratio float64) error {
	s.txMu.Lock()
	defer s.txMu.Unlock()
	return s.blocks.forRewrite(1 - ratio)
}

// smallFile is more than twice the largest value, that is a record with all
// that belongs to it.
const smallFile = 24 << 20

// rotate writes a memtable's worth of filler under the same few keys, and some
// more, which makes Badger flush the memtable and compact: there is no call for
// that, and a memtable that is full goes with the next write.
func (s *Store) rotate() error {
	if err := s.space.check(2*memTableSize, true); err != nil {
		return err
	}
	s.txMu.Lock()
	defer s.txMu.Unlock()
	const perTxn = 100
	value := make([]byte, fillerValue)
	for i := 0; i < memTableSize*5/4/fillerValue; i += perTxn {
		var b kv.Batch
		for j := i; j < i+perTxn; j++ {
			b.Set(binary.BigEndian.AppendUint32([]byte{FillerPrefix}, uint32(j)), value)
		}
		if err := s.blocks.forCommit(&b, s.largeBytes(&b)); err != nil {
			return err
		}
		if err := s.commit(&b); err != nil {
			return fmt.Errorf("rotating the memtable: %w", err)
		}
	}
	return nil
}
