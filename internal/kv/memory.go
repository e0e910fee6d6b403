package kv

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/shardlog/shardlog"
)

// Memory is a Store in memory. It keeps the values that it is given without
// copying them. Use NewMemory.
type Memory struct {
	mu      sync.RWMutex
	m       map[string][]byte
	bytes   int64
	commits int64
	entries atomic.Uint64
	closed  atomic.Bool
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{m: map[string][]byte{}} }

// Commit implements Store.
func (s *Memory) Commit(b *Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		return shardlog.ErrClosed
	}
	s.commits++
	if b.Entry != nil {
		b.At = Position{Seq: s.entries.Add(1)}
	}
	for i := range b.Ops {
		op := &b.Ops[i]
		s.bytes -= int64(len(s.m[string(op.Key)]))
		if op.Delete {
			delete(s.m, string(op.Key))
			continue
		}
		s.m[string(op.Key)] = op.Value
		s.bytes += int64(len(op.Value))
	}
	return nil
}

// Journal implements Store. It keeps nothing: the entries would be gone with the rest.
func (s *Memory) Journal() Journal { return (*memoryJournal)(s) }

type memoryJournal Memory

func (j *memoryJournal) Read(func(Position, []byte) error) error { return nil }
func (j *memoryJournal) Restart(entries [][]byte) ([]Position, error) {
	places := make([]Position, len(entries))
	for i := range places {
		places[i].Seq = j.entries.Add(1)
	}
	return places, nil
}
func (j *memoryJournal) Append(...[]byte) (Position, bool) {
	if j.closed.Load() {
		return Position{}, false
	}
	return Position{Seq: j.entries.Add(1)}, true
}
func (j *memoryJournal) Needed(Position)         {}
func (j *memoryJournal) End() Position           { return Position{Seq: j.entries.Load() + 1} }
func (j *memoryJournal) Room(int) bool           { return true }
func (j *memoryJournal) Use() (used, most int64) { return 0, math.MaxInt64 }

// Get implements Store.
func (s *Memory) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.m == nil {
		return nil, shardlog.ErrClosed
	}
	v, ok := s.m[string(key)]
	if !ok {
		return nil, shardlog.ErrNotFound
	}
	return bytes.Clone(v), nil
}

// GetMany implements Store.
func (s *Memory) GetMany(keys [][]byte, f func(i int, value []byte) bool) error {
	for i, k := range keys {
		s.mu.RLock()
		v, ok := s.m[string(k)]
		closed := s.m == nil
		s.mu.RUnlock()
		switch {
		case closed:
			return shardlog.ErrClosed
		case ok && v == nil:
			v = []byte{}
		}
		if !f(i, v) {
			break
		}
	}
	return nil
}

// Scan implements Store.
func (s *Memory) Scan(prefix []byte, f func(key []byte, size int64) bool) error {
	type entry struct {
		key  string
		size int64
	}
	var entries []entry
	s.mu.RLock()
	if s.m == nil {
		s.mu.RUnlock()
		return shardlog.ErrClosed
	}
	for k, v := range s.m {
		if strings.HasPrefix(k, string(prefix)) {
			entries = append(entries, entry{k, int64(len(v))})
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range entries {
		if !f([]byte(e.key), e.size) {
			break
		}
	}
	return nil
}

// Snapshot implements Store. It costs a pointer for each key.
func (s *Memory) Snapshot() (Snapshot, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.m == nil {
		return nil, shardlog.ErrClosed
	}
	return memorySnapshot{&Memory{m: maps.Clone(s.m)}}, nil
}

type memorySnapshot struct{ *Memory }

// Close implements Snapshot.
func (s memorySnapshot) Close() { _ = s.Memory.Close() }

// Sync implements Store.
func (s *Memory) Sync() error { return nil }

// Reclaim implements Store; memory is freed as soon as it is overwritten.
func (s *Memory) Reclaim(_, _ int64) (more, moved bool, err error) { return false, false, nil }

// Usage implements Store.
func (s *Memory) Usage() Usage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Usage{FreeBytes: -1, Commits: s.commits}
}

// Close implements Store.
func (s *Memory) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m = nil
	s.closed.Store(true)
	return nil
}
