package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// newest as a version means whatever was committed last.
const newest = math.MaxUint64

// Get implements kv.Store.
func (s *Store) Get(key []byte) ([]byte, error) { return s.getAt(newest, key) }

// Scan implements kv.Store.
func (s *Store) Scan(prefix []byte, f func(key []byte, size int64) bool) error {
	return s.scanAt(newest, prefix, f)
}

func (s *Store) getAt(version uint64, key []byte) ([]byte, error) {
	s.mapMu.RLock()
	defer s.mapMu.RUnlock()
	if s.closed.Load() {
		return nil, shardlog.ErrClosed
	}
	var err error
	// Space reclaiming may delete a file between finding a value's place and
	// reading it; it has stored the value elsewhere by then.
	for range 3 {
		var v []byte
		if v, err = s.tryGet(version, key); err == nil {
			return v, nil
		}
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil, shardlog.ErrNotFound
		}
	}
	return nil, corrupt(err)
}

// corrupt makes an error of Badger match shardlog.ErrCorrupt.
func corrupt(err error) error {
	if errors.Is(err, shardlog.ErrCorrupt) {
		return err
	}
	return fmt.Errorf("%w: %v", shardlog.ErrCorrupt, err)
}

func (s *Store) tryGet(version uint64, key []byte) (value []byte, err error) {
	defer faults()()
	defer s.recovered(&err)
	txn := s.db.NewTransactionAt(version, false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if err != nil {
		return nil, err
	}
	if err := s.places.check(item); err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

// GetMany implements kv.Store.
func (s *Store) GetMany(keys [][]byte, f func(i int, value []byte) bool) (err error) {
	if len(keys) == 0 {
		return nil
	}
	defer faults()()
	defer s.faulted(&err)
	s.mapMu.RLock()
	defer s.mapMu.RUnlock()
	if s.closed.Load() {
		return shardlog.ErrClosed
	}
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	io := badger.DefaultIteratorOptions
	io.PrefetchValues = false
	// The common prefix leaves out tables that have none of the keys.
	first, last := keys[0], keys[len(keys)-1]
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	io.Prefix = first[:n]
	it := txn.NewIterator(io)
	defer it.Close()
	more, at := true, 0
	call := newValueCall(func(v []byte) { more = f(at, v) })
	it.Seek(first)
	for i, k := range keys {
		for it.Valid() && bytes.Compare(it.Item().Key(), k) < 0 {
			it.Next()
		}
		at = i
		if !it.Valid() || !bytes.Equal(it.Item().Key(), k) {
			more = f(i, nil)
		} else if err := s.passValue(it.Item(), call); err != nil {
			return corrupt(err)
		}
		if !more {
			break
		}
	}
	return nil
}

// valueOf calls f with an item's value. A panic of f is not caught, unless it
// is a page that cannot be read.
func (s *Store) valueOf(item *badger.Item, f func([]byte)) error {
	return s.passValue(item, newValueCall(f))
}

// valueCall is a function that is called with values, one after another.
type valueCall struct {
	calling bool // the function runs, and what panics is not Badger
	call    func(value []byte) error
}

func newValueCall(f func([]byte)) *valueCall {
	c := &valueCall{}
	c.call = func(v []byte) error {
		if v == nil {
			v = []byte{}
		}
		c.calling = true
		f(v)
		c.calling = false
		return nil
	}
	return c
}

// passValue is valueOf for a function that is called for many items.
func (s *Store) passValue(item *badger.Item, c *valueCall) (err error) {
	if err := s.places.check(item); err != nil {
		return err
	}
	defer func() {
		if c.calling {
			return
		}
		if p := recover(); p != nil {
			s.log.jammed.Store(true)
			err = fmt.Errorf("reading a value: %v", p)
		}
	}()
	return item.Value(c.call)
}

// faulted turns the panic of a page that cannot be read into an error.
func (s *Store) faulted(err *error) {
	p := recover()
	switch {
	case p == nil:
	case isFault(p):
		*err = fmt.Errorf("%w: reading: %v", shardlog.ErrCorrupt, p)
	default:
		panic(p)
	}
}

// recovered turns a panic of Badger into an error. Bytes that were damaged
// after the store was opened can cause one.
func (s *Store) recovered(err *error) {
	if p := recover(); p != nil {
		s.log.jammed.Store(true)
		*err = fmt.Errorf("%w: reading: %v", shardlog.ErrCorrupt, p)
	}
}

func (s *Store) scanAt(version uint64, prefix []byte, f func(key []byte, size int64) bool) error {
	return s.scanItems(version, prefix, func(item *badger.Item) bool {
		k := item.Key()
		return bytes.Equal(k, redoKey) || bytes.Equal(k, entryKey) || f(k, item.ValueSize()) // which are nobody else's
	})
}

// scanItems calls f for the items with the prefix until it returns false.
func (s *Store) scanItems(version uint64, prefix []byte, f func(*badger.Item) bool) (err error) {
	defer faults()()
	defer s.faulted(&err)
	s.mapMu.RLock()
	defer s.mapMu.RUnlock()
	if s.closed.Load() {
		return shardlog.ErrClosed
	}
	txn := s.db.NewTransactionAt(version, false)
	defer txn.Discard()
	io := badger.DefaultIteratorOptions
	io.PrefetchValues = false
	io.Prefix = prefix
	it := txn.NewIterator(io)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if !f(it.Item()) {
			break
		}
	}
	return nil
}

// snapshot reads the store at one version, which Reclaim keeps from being
// dropped until it is closed.
type snapshot struct {
	s       *Store
	version uint64
	closed  sync.Once
}

// Snapshot implements kv.Store.
func (s *Store) Snapshot() (kv.Snapshot, error) {
	s.txMu.Lock()
	defer s.txMu.Unlock()
	if s.closed.Load() {
		return nil, shardlog.ErrClosed
	}
	v := s.ts.Load()
	s.pins[v]++
	return &snapshot{s: s, version: v}, nil
}

// dropVersions lets Badger know which versions nobody reads any more. A recovery
// reads those that are not durable, and what was before them.
func (s *Store) dropVersions() {
	s.txMu.Lock()
	defer s.txMu.Unlock()
	v := s.ts.Load()
	if s.opts.SyncWrites {
		v = s.durable.Load()
	}
	for pinned := range s.pins {
		v = min(v, pinned)
	}
	s.db.SetDiscardTs(v)
}

func (p *snapshot) Get(key []byte) ([]byte, error) { return p.s.getAt(p.version, key) }

func (p *snapshot) Scan(prefix []byte, f func(key []byte, size int64) bool) error {
	return p.s.scanAt(p.version, prefix, f)
}

func (p *snapshot) Close() {
	p.closed.Do(func() {
		p.s.txMu.Lock()
		defer p.s.txMu.Unlock()
		if p.s.pins[p.version]--; p.s.pins[p.version] <= 0 {
			delete(p.s.pins, p.version)
		}
	})
}
