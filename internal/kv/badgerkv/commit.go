package badgerkv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// Commit implements kv.Store.
func (s *Store) Commit(b *kv.Batch) error {
	if len(b.Ops) == 0 && b.Entry == nil {
		return nil
	}
	for i := range b.Ops {
		if n := len(b.Ops[i].Value); int64(n) > s.opts.ValueLogFile {
			return &shardlog.InvalidError{Field: "value", Value: fmt.Sprintf("of %d bytes", n), Limit: fmt.Sprintf("at most the %d bytes of a value log file", s.opts.ValueLogFile)}
		}
	}
	if len(b.Ops) > maxOps {
		return fmt.Errorf("badgerkv: %d changes in one batch, at most %d", len(b.Ops), maxOps)
	}
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.space.check(int64(b.Bytes+len(b.Entry)), b.Small); err != nil {
		return err
	}
	if b.Entry != nil && len(b.Ops) > 0 {
		n := len(b.Ops)
		b.Set(entryKey, make([]byte, 8)) // it takes room in the redo log as well
		defer b.Truncate(n)
	}
	twice, err := s.prepareRedo(b)
	if err != nil {
		return err
	}
	s.txMu.Lock()
	defer s.txMu.Unlock()
	if s.closed.Load() {
		return shardlog.ErrClosed
	}
	if len(b.Ops) == 0 {
		return s.commitEntry(b, 0)
	}
	large := s.largeBytes(b)
	if err := s.blocks.forCommit(b, large); err != nil {
		return err
	}
	s.space.took(2 * int64(b.Inline)) // in a memtable's log, and in a table
	s.pager.wrote(large)
	if s.remaps(b) {
		s.mapMu.Lock()
		defer s.mapMu.Unlock()
	}
	if b.Entry != nil {
		binary.BigEndian.PutUint64(b.Ops[len(b.Ops)-1].Value, s.ts.Load()+1)
	}
	if err := s.commitAs(b, twice, large > 0); err != nil {
		return err
	}
	s.commits.Add(1)
	s.gc.written.Add(int64(b.Bytes))
	return nil
}

// prepareRedo makes room in the redo log for what a batch puts there. Twice says that
// its changes go there as well.
func (s *Store) prepareRedo(b *kv.Batch) (twice bool, err error) {
	l := s.redo
	if l == nil {
		return false, nil // while the store is opened
	}
	if b.Entry != nil && !l.begun.Load() {
		return false, fmt.Errorf("badgerkv: a batch has an entry, and the journal was not begun")
	}
	if twice = l.takes(b); twice && !l.ring.Fits(b) {
		if err := s.advanceFor(b); err != nil {
			return false, err
		}
		twice = l.ring.Fits(b)
	}
	if b.Entry != nil && !s.Journal().Room(len(b.Entry)) {
		if err := s.usable(); err != nil {
			return false, err
		}
		return false, &shardlog.Error{Op: "commit", RetryAfter: kv.RetryAfterFull, Err: fmt.Errorf("%w: the redo log has no room", shardlog.ErrNoSpace)}
	}
	return twice, nil
}

// commitEntry stores the entry of a batch whose changes get the version, 0 if it has
// none, with txMu held.
func (s *Store) commitEntry(b *kv.Batch, version uint64) (err error) {
	l := s.redo
	if l.synced {
		s.syncs.Add(1)
		b.At, err = l.ring.Append(version, &kv.Batch{Entry: b.Entry})
	} else if at, ok := l.ring.Note(version, b.Entry); ok {
		b.At = at
	} else {
		err = errors.New("the redo log takes no entry")
	}
	if err != nil {
		return s.failed(err)
	}
	if version == 0 {
		s.commits.Add(1)
	}
	return nil
}

// commitAs writes a batch as durably as the store was opened for, with txMu held.
// Values says that it has some for the value log.
func (s *Store) commitAs(b *kv.Batch, twice, values bool) error {
	if values {
		s.noteValue(b)
	}
	if twice {
		s.syncs.Add(1)
		return s.commitTwice(b)
	}
	if err := s.commit(b); err != nil {
		return err
	}
	if s.redo == nil || !s.redo.synced {
		return nil
	}
	s.syncs.Add(1)
	if err := s.syncCommit(values); err != nil {
		return s.failed(err)
	}
	s.redo.bypassed(b)
	return s.log.failure()
}

// noteValue notes the last key whose value goes to the value log, with txMu held.
func (s *Store) noteValue(b *kv.Batch) {
	for i := len(b.Ops) - 1; i >= 0; i-- {
		if op := &b.Ops[i]; int64(len(op.Value)) >= s.threshold {
			s.lastValue = append(s.lastValue[:0], op.Key...)
			return
		}
	}
}

// remaps reports whether a batch may be too large for the mapping of a value
// log file, which is twice as long as the file. Badger then maps the file at
// another address without waiting for its readers, so nobody may read
// meanwhile.
func (s *Store) remaps(b *kv.Batch) bool {
	return int64(b.Bytes)+int64(len(b.Ops)+1)*entryOverhead >= s.opts.ValueLogFile
}

// commit writes a batch as one transaction, after its entry. Every error from the
// entry on leaves an uncertain state, so it stops all further writing.
func (s *Store) commit(b *kv.Batch) error {
	txn, err := s.transaction(b)
	if err != nil {
		return err
	}
	defer txn.Discard()
	if b.Entry != nil {
		// Its version is no other batch's from here on.
		if err := s.commitEntry(b, s.ts.Load()+1); err != nil {
			return err
		}
	}
	if err := txn.CommitAt(s.ts.Add(1), nil); err != nil {
		return s.failed(err)
	}
	return s.log.failure()
}

// transaction returns one of Badger with the changes of a batch. Nothing was sent
// if there is an error.
func (s *Store) transaction(b *kv.Batch) (*badger.Txn, error) {
	txn := s.db.NewTransactionAt(newest, true)
	entries := make([]badger.Entry, len(b.Ops))
	for i := range b.Ops {
		op, e := &b.Ops[i], &entries[i]
		var err error
		if op.Delete {
			err = txn.Delete(op.Key)
		} else {
			e.Key, e.Value = op.Key, op.Value
			err = txn.SetEntry(e)
		}
		if err != nil {
			txn.Discard()
			return nil, fmt.Errorf("badgerkv: %w", err)
		}
	}
	return txn, nil
}

// commitTwice writes a batch to the redo log while Badger applies it, with txMu
// held.
func (s *Store) commitTwice(b *kv.Batch) error {
	version, applied, err := s.send(b)
	if err != nil {
		return err
	}
	at, written := s.redo.ring.Append(version, b)
	if err := errors.Join(<-applied, written); err != nil {
		return s.failed(err)
	}
	b.At = at
	return s.log.failure()
}

// send hands a batch to Badger as one transaction, with txMu held, and returns the
// version that it gets. The outcome comes on applied.
func (s *Store) send(b *kv.Batch) (version uint64, applied <-chan error, err error) {
	txn, err := s.transaction(b)
	if err != nil {
		return 0, nil, err
	}
	version = s.ts.Add(1)
	done := make(chan error, 1)
	// The callback runs in a goroutine of its own.
	return version, done, txn.CommitAt(version, func(err error) { done <- err })
}
