package logstore

import (
	"errors"
	"fmt"
	"sync"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// errInjected is the cause of every failure that a faulty makes.
var errInjected = errors.New("injected fault")

// faulty passes operations on to a store and makes chosen ones fail. Set its
// fields before it is used.
type faulty struct {
	kv.Store
	// failAt is the number of the operation that fails, from 0 on; -1 for
	// none. Operations are commits, gets, scans and syncs.
	failAt int
	// applied makes a failing commit take effect anyway, as one whose
	// answer is lost does. It then fails with shardlog.ErrStorage.
	applied bool
	// keepOpen makes Close leave the store open, so that it can be opened
	// again as if after a crash.
	keepOpen bool

	mu     sync.Mutex
	n      int
	failed bool
}

// operations returns how many there were, and whether one failed.
func (f *faulty) operations() (n int, failed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n, f.failed
}

// next counts an operation and reports whether it is to fail.
func (f *faulty) next() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.n-1 == f.failAt {
		f.failed = true
		return true
	}
	return false
}

// Commit implements kv.Store.
func (f *faulty) Commit(b *kv.Batch) error {
	if !f.next() {
		return f.Store.Commit(b)
	}
	if f.applied {
		if err := f.Store.Commit(b); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", shardlog.ErrStorage, errInjected)
	}
	return errInjected
}

// Get implements kv.Store.
func (f *faulty) Get(key []byte) ([]byte, error) {
	if f.next() {
		return nil, errInjected
	}
	return f.Store.Get(key)
}

// GetMany implements kv.Store.
func (f *faulty) GetMany(keys [][]byte, each func(i int, value []byte) bool) error {
	if f.next() {
		return errInjected
	}
	return f.Store.GetMany(keys, each)
}

// Scan implements kv.Store.
func (f *faulty) Scan(prefix []byte, each func(key []byte, size int64) bool) error {
	if f.next() {
		return errInjected
	}
	return f.Store.Scan(prefix, each)
}

// Sync implements kv.Store.
func (f *faulty) Sync() error {
	if f.next() {
		return errInjected
	}
	return f.Store.Sync()
}

// Close implements kv.Store.
func (f *faulty) Close() error {
	if f.keepOpen {
		return nil
	}
	return f.Store.Close()
}
