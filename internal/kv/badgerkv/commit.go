package badgerkv

import (
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// Commit implements kv.Store.
func (s *Store) Commit(b *kv.Batch) error {
	if len(b.Ops) == 0 {
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
	if err := s.space.check(int64(b.Bytes), b.Small); err != nil {
		return err
	}
	twice := s.redo.takes(b)
	if twice {
		if err := s.redo.ring.Room(b); err != nil {
			if s.closed.Load() {
				return shardlog.ErrClosed
			}
			return s.failed(err)
		}
	}
	s.txMu.Lock()
	defer s.txMu.Unlock()
	if s.closed.Load() {
		return shardlog.ErrClosed
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
	if err := s.commitAs(b, twice, large > 0); err != nil {
		return err
	}
	s.commits.Add(1)
	s.gc.written.Add(int64(b.Bytes))
	return nil
}

// commitAs writes a batch as durably as the store was opened for, with txMu held.
// Values says that it has some for the value log.
func (s *Store) commitAs(b *kv.Batch, twice, values bool) error {
	if values {
		s.noteValue(b)
	}
	switch {
	case s.redo == nil:
		return s.commit(b)
	case twice:
		s.syncs.Add(1)
		return s.commitTwice(b)
	}
	if err := s.commit(b); err != nil {
		return err
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

// commit writes a batch as one transaction. Every error from Badger past this
// point leaves an uncertain state, so it stops all further writing.
func (s *Store) commit(b *kv.Batch) error {
	txn, err := s.transaction(b)
	if err != nil {
		return err
	}
	defer txn.Discard()
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
