package badgerkv

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// rescue runs after Badger has copied the living values of a file, and before
// the file goes. Badger stops to read at the first entry that is damaged, takes
// that for the end, and copies nothing behind it. What it has left there
// is copied here; only what cannot be read goes with the file. The caller has an
// iterator open, which keeps the file.
func (s *Store) rescue() error {
	gc := s.log.rewritten()
	path := s.path(badgerfile.ValueName(uint64(gc.file)))
	n, whole, err := badgerfile.CountEntries(path)
	if err != nil {
		return fmt.Errorf("%w: %w", shardlog.ErrStorage, err)
	}
	if whole && n == gc.entries {
		return nil
	}
	keys, err := s.valuesIn(gc.file)
	if err != nil {
		return err
	}
	kept, lost := 0, 0
	for _, k := range keys {
		ok, err := s.moveFrom(gc.file, k)
		switch {
		case errors.Is(err, shardlog.ErrCorrupt):
			lost++
			s.warn("a value is damaged, and its file is given back", "file", path, "error", err)
		case err != nil:
			return err
		case ok:
			kept++
		}
	}
	s.warn("a damaged file of the value log is given back", "file", path, "kept", kept, "lost", lost)
	return nil
}

// valuesIn returns the keys whose values are in a file of the value log.
func (s *Store) valuesIn(file uint32) (keys [][]byte, err error) {
	err = s.scanItems(newest, nil, func(item *badger.Item) bool {
		if p, ok := place(item); ok && p.File == file {
			keys = append(keys, item.KeyCopy(nil))
		}
		return true
	})
	return keys, err
}

// moveFrom stores the value of a key again if it is still in a file.
func (s *Store) moveFrom(file uint32, key []byte) (moved bool, err error) {
	s.txMu.Lock()
	defer s.txMu.Unlock()
	var b kv.Batch
	err = s.withItem(key, func(item *badger.Item) error {
		if p, ok := place(item); !ok || p.File != file {
			return nil
		}
		return s.valueOf(item, func(v []byte) { b.Set(key, append([]byte(nil), v...)) })
	})
	if errors.Is(err, badger.ErrKeyNotFound) || err == nil && len(b.Ops) == 0 {
		return false, nil // deleted or overwritten meanwhile
	}
	if err != nil {
		return false, corrupt(err)
	}
	if err := s.space.check(int64(b.Bytes), true); err != nil {
		return false, err
	}
	if err := s.blocks.forCommit(&b, s.largeBytes(&b)); err != nil {
		return false, err
	}
	if s.remaps(&b) {
		s.mapMu.Lock()
		defer s.mapMu.Unlock()
	}
	return true, s.commit(&b)
}

// withItem calls f with the newest version of a key.
func (s *Store) withItem(key []byte, f func(*badger.Item) error) (err error) {
	s.mapMu.RLock()
	defer s.mapMu.RUnlock()
	if s.closed.Load() {
		return shardlog.ErrClosed
	}
	defer faults()()
	defer s.recovered(&err)
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if err != nil {
		return err
	}
	return f(item)
}
