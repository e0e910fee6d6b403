package logstore

import (
	"bytes"
	"context"
	"slices"

	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// Snapshot returns everything stored, as the last commit left it, with blocks of what is
// only in the journal: all that was acknowledged before the call.
func (l *Log) Snapshot() (kv.Snapshot, error) {
	if err := l.closing(); err != nil {
		return nil, err
	}
	var s *snapshot
	var err error
	// The committer makes it, so that nothing is committed between what it takes from
	// the store and from the shards.
	o := &op{small: true, apply: func(*Tx) error { return nil }, commit: func() { s, err = l.snapshot() }}
	if serr := l.submit(context.Background(), o); serr != nil {
		return nil, serr
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// snapshot is that of the store with blocks of runs.
type snapshot struct {
	kv.Snapshot
	runs map[string]*block.Block
	keys [][]byte // of runs, sorted
}

func (l *Log) snapshot() (*snapshot, error) {
	l.mu.Lock()
	views := make(map[ID]*view, len(l.shards))
	for id, s := range l.shards {
		views[id] = s.view()
	}
	l.mu.Unlock()
	stored, err := l.store.Snapshot()
	if err != nil {
		return nil, err
	}
	s := &snapshot{Snapshot: stored, runs: map[string]*block.Block{}}
	for id, v := range views {
		for _, b := range v.runs() {
			k := blockKey(id, &blockRef{first: b.First, count: b.Count, firstMs: b.FirstMs, lastMs: b.LastMs})
			s.runs[string(k)] = b
			s.keys = append(s.keys, k)
		}
	}
	slices.SortFunc(s.keys, bytes.Compare)
	return s, nil
}

// Get implements kv.Snapshot.
func (s *snapshot) Get(key []byte) ([]byte, error) {
	if b := s.runs[string(key)]; b != nil {
		whole := block.Merge(b)
		return whole.Encoded(block.None), nil
	}
	return s.Snapshot.Get(key)
}

// Scan implements kv.Snapshot.
func (s *snapshot) Scan(prefix []byte, f func(key []byte, size int64) bool) error {
	i, _ := slices.BinarySearchFunc(s.keys, prefix, bytes.Compare)
	more := true
	runs := func(before func(key []byte) bool) bool {
		for ; more && i < len(s.keys) && bytes.HasPrefix(s.keys[i], prefix) && before(s.keys[i]); i++ {
			more = f(s.keys[i], int64(s.runs[string(s.keys[i])].Size()))
		}
		return more
	}
	err := s.Snapshot.Scan(prefix, func(key []byte, size int64) bool {
		if !runs(func(k []byte) bool { return bytes.Compare(k, key) < 0 }) {
			return false
		}
		more = f(key, size)
		return more
	})
	if err == nil {
		runs(func([]byte) bool { return true })
	}
	return err
}
