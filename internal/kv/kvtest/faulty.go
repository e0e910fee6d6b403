// Package kvtest helps to test what is built on package kv: a Store whose
// operations fail on request, and a suite that every Store has to pass.
package kvtest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// Op is a set of operations of a store.
type Op uint8

// The operations that can be made to fail. Get stands for GetMany too, and
// both for those of snapshots.
const (
	Commit Op = 1 << iota
	Get
	Scan
	Sync
	// Append is that of the journal, which does not report why it did nothing.
	Append
	All = Commit | Get | Scan | Sync
)

// Mode says how an operation fails.
type Mode uint8

const (
	// Refuse fails the one operation with an ordinary error, and nothing is
	// applied.
	Refuse Mode = iota
	// Torn fails it with shardlog.ErrStorage, and nothing is applied; the
	// store takes no writes after, as after a failed sync.
	Torn
	// TornApplied is Torn for a commit, or an entry, that is applied anyway.
	TornApplied
)

// ErrInjected is wrapped by the errors of operations that were made to fail.
var ErrInjected = errors.New("injected")

// Limits of a batch, those of package badgerkv: changes, and what the tree
// takes in one transaction. Faulty refuses a batch beyond them.
const (
	MaxOps  = 1000
	MaxTree = 1 << 20 * 15 / 100
)

// Faulty is a Store over another one. It fails on request, and can be used
// again after Close: reopening a log on it is like restarting the process. Its
// methods are safe for concurrent use. Use New.
type Faulty struct {
	store kv.Store

	mu      sync.Mutex
	kinds   Op
	at      int // the operation that fails, from 1; 0 for none
	mode    Mode
	cause   error
	seen    int // operations of kinds so far
	hit     bool
	struck  chan struct{} // closed with hit
	dead    bool
	commits int
	refused int
	onRead  func(Op, []byte)
	before  func(*kv.Batch) error
	damage  func(key, value []byte) []byte
	drop    func(key []byte) bool
	sums    map[string]stored

	// The journal.
	entries []entry
	seq     uint64
	needed  uint64
	hold    bool // Sync was called
	most    int64
	kept    int64 // bytes of the room that Room has found
	syncs   bool
}

type stored struct {
	value []byte
	sum   uint64
}

// New returns a Faulty over a store.
func New(store kv.Store) *Faulty { return &Faulty{store: store, sums: map[string]stored{}} }

// FailAt makes the n-th operation from now on, of the kinds, fail; 0 for none.
// A nil cause is ErrInjected.
func (f *Faulty) FailAt(n int, kinds Op, mode Mode, cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cause == nil {
		cause = ErrInjected
	}
	f.at, f.kinds, f.mode, f.cause, f.seen, f.hit, f.struck = n, kinds, mode, cause, 0, false, make(chan struct{})
}

// Struck returns a channel that is closed when the failure that FailAt asked for last
// happens.
func (f *Faulty) Struck() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.struck
}

// Hit reports whether the failure that FailAt asked for has happened.
func (f *Faulty) Hit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit
}

// Revive removes every failure, damage, drop and hook, so that the store is as
// a new process would find it.
func (f *Faulty) Revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.dead, f.damage, f.drop, f.before, f.onRead = 0, false, nil, nil, nil, nil
}

// BeforeCommit sets a function that each commit calls first, without holding
// a lock; its error fails the commit with nothing applied. Nil for none.
func (f *Faulty) BeforeCommit(g func(*kv.Batch) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = g
}

// OnRead sets a function that Get, GetMany (with the first key) and Scan (with
// the prefix) call first, without holding a lock. Nil for none.
func (f *Faulty) OnRead(g func(op Op, key []byte)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onRead = g
}

// Damage sets a function that changes values as they are read; it gets a copy
// and returns what to deliver. Nil for none.
func (f *Faulty) Damage(g func(key, value []byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.damage = g
}

// Drop hides keys from reads, as if they had never been stored. Nil for none.
func (f *Faulty) Drop(g func(key []byte) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop = g
}

// Commits returns how many commits were applied.
func (f *Faulty) Commits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commits
}

// Refused returns how many batches were over the limits of the real store. No
// caller may ever make one.
func (f *Faulty) Refused() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

// CheckValues returns an error if a value was changed by its owner after it
// was committed.
func (f *Faulty) CheckValues() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, s := range f.sums {
		if xxhash.Sum64(s.value) != s.sum {
			return fmt.Errorf("the value of key %q was changed after its commit", k)
		}
	}
	return nil
}

// fault decides the fate of one operation; applied says that a commit is to be
// applied before it fails.
func (f *Faulty) fault(op Op) (applied bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead && op&(Commit|Sync) != 0 {
		return false, fmt.Errorf("%w: %w: failed before", shardlog.ErrStorage, ErrInjected)
	}
	if f.kinds&op == 0 || f.at == 0 {
		return false, nil
	}
	if f.seen++; f.seen != f.at {
		return false, nil
	}
	f.hit = true
	close(f.struck)
	if f.mode == Refuse {
		return false, f.cause
	}
	f.dead = true
	return f.mode == TornApplied, fmt.Errorf("%w: %w", shardlog.ErrStorage, f.cause)
}

// Commit implements kv.Store.
func (f *Faulty) Commit(b *kv.Batch) error {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before != nil {
		if err := before(b); err != nil {
			return err
		}
	}
	if err := f.checkBatch(b); err != nil {
		return err
	}
	if b.Entry != nil && !f.Journal().Room(len(b.Entry)) {
		return errors.New("kvtest: an entry for which there is no room")
	}
	applied, err := f.fault(Commit)
	if err != nil && !applied {
		return err
	}
	changes := *b
	changes.Entry = nil
	if serr := f.store.Commit(&changes); serr != nil {
		return serr
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.Entry != nil {
		b.At = f.add(bytes.Clone(b.Entry))
		f.kept = 0
	}
	f.commits++
	for i := range b.Ops {
		op := &b.Ops[i]
		if op.Delete {
			delete(f.sums, string(op.Key))
		} else {
			f.sums[string(op.Key)] = stored{op.Value, xxhash.Sum64(op.Value)}
		}
	}
	return err
}

// checkBatch refuses what the real store would.
func (f *Faulty) checkBatch(b *kv.Batch) error {
	tree := 0
	for i := range b.Ops {
		op := &b.Ops[i]
		if len(op.Key) == 0 {
			return errors.New("kvtest: a change without a key")
		}
		tree += len(op.Key) + 24
		if len(op.Value) < kv.InlineValue {
			tree += len(op.Value)
		}
	}
	if len(b.Ops) <= MaxOps && tree < MaxTree {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused++
	return fmt.Errorf("kvtest: a batch of %d changes and %d bytes in the tree is too large", len(b.Ops), tree)
}

func (f *Faulty) read(op Op, key []byte) error {
	f.mu.Lock()
	on := f.onRead
	f.mu.Unlock()
	if on != nil {
		on(op, key)
	}
	_, err := f.fault(op)
	return err
}

// deliver applies Drop and Damage; ok is false for what is hidden.
func (f *Faulty) deliver(key, value []byte) (out []byte, ok bool) {
	f.mu.Lock()
	drop, damage := f.drop, f.damage
	f.mu.Unlock()
	if drop != nil && drop(key) {
		return nil, false
	}
	if damage != nil {
		value = damage(key, bytes.Clone(value))
	}
	return value, true
}

// Get implements kv.Store.
func (f *Faulty) Get(key []byte) ([]byte, error) { return f.get(f.store.Get, key) }

func (f *Faulty) get(get func([]byte) ([]byte, error), key []byte) ([]byte, error) {
	if err := f.read(Get, key); err != nil {
		return nil, err
	}
	v, err := get(key)
	if err != nil {
		return nil, err
	}
	v, ok := f.deliver(key, v)
	if !ok {
		return nil, shardlog.ErrNotFound
	}
	return v, nil
}

// GetMany implements kv.Store.
func (f *Faulty) GetMany(keys [][]byte, g func(i int, value []byte) bool) error {
	if err := f.read(Get, keys[0]); err != nil {
		return err
	}
	return f.store.GetMany(keys, func(i int, value []byte) bool {
		if value != nil {
			value, _ = f.deliver(keys[i], value)
		}
		return g(i, value)
	})
}

// Scan implements kv.Store.
func (f *Faulty) Scan(prefix []byte, g func(key []byte, size int64) bool) error {
	return f.scan(f.store.Scan, prefix, g)
}

func (f *Faulty) scan(scan func([]byte, func([]byte, int64) bool) error, prefix []byte, g func(key []byte, size int64) bool) error {
	if err := f.read(Scan, prefix); err != nil {
		return err
	}
	f.mu.Lock()
	drop := f.drop
	f.mu.Unlock()
	return scan(prefix, func(key []byte, size int64) bool {
		if drop != nil && drop(key) {
			return true
		}
		return g(key, size)
	})
}

// Snapshot implements kv.Store.
func (f *Faulty) Snapshot() (kv.Snapshot, error) {
	s, err := f.store.Snapshot()
	if err != nil {
		return nil, err
	}
	return &snapshot{f, s}, nil
}

type snapshot struct {
	f *Faulty
	s kv.Snapshot
}

func (s *snapshot) Get(key []byte) ([]byte, error) { return s.f.get(s.s.Get, key) }

func (s *snapshot) Scan(prefix []byte, g func(key []byte, size int64) bool) error {
	return s.f.scan(s.s.Scan, prefix, g)
}

func (s *snapshot) Close() { s.s.Close() }

// Sync implements kv.Store.
func (f *Faulty) Sync() error {
	if _, err := f.fault(Sync); err != nil {
		return err
	}
	f.mu.Lock()
	f.hold = true
	f.release()
	f.mu.Unlock()
	return f.store.Sync()
}

// Reclaim implements kv.Store.
func (f *Faulty) Reclaim(live, dead int64) (more, moved bool, err error) {
	return f.store.Reclaim(live, dead)
}

// Usage implements kv.Store.
func (f *Faulty) Usage() kv.Usage { return f.store.Usage() }

// Close implements kv.Store; the store below stays open.
func (f *Faulty) Close() error { return nil }
