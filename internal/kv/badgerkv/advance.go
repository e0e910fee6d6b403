package badgerkv

import (
	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// advance makes Badger's files durable, and the journal, and gives back the part of
// the ring that nothing needs.
func (s *Store) advance() error {
	s.redo.advancing.Lock()
	defer s.redo.advancing.Unlock()
	return s.advanceLocked()
}

func (s *Store) advanceLocked() error {
	if err := s.usable(); err != nil {
		return err
	}
	s.txMu.Lock()
	p, m := s.redo.first(s.redo.ring.End()), s.mark()
	s.redo.aside.Store(0)
	s.txMu.Unlock()
	if err := s.syncFiles(); err != nil {
		return s.failed(err)
	}
	if !s.redo.synced {
		if err := s.redo.ring.Sync(); err != nil {
			return s.failed(err)
		}
	}
	if s.redo.begun.Load() { // until then the journal needs what it has
		if err := s.redo.ring.Release(p, m, true); err != nil {
			return s.failed(err)
		}
	}
	s.durable.Store(m.Base)
	return s.log.failure()
}

// giveBack gives back the part of the ring that nothing needs, as far as that needs no
// sync which nobody asked for.
func (s *Store) giveBack() error {
	l := s.redo
	l.advancing.Lock()
	defer l.advancing.Unlock()
	if l.synced || l.owes() {
		return s.advanceLocked()
	}
	if err := s.usable(); err != nil || !l.begun.Load() {
		return err
	}
	// Nobody was promised that what is there survives a crash of the system.
	if err := l.ring.Release(l.first(l.ring.End()), l.ring.Mark(), false); err != nil {
		return s.failed(err)
	}
	return nil
}

// advanceFor advances the ring if it has no room for a batch.
func (s *Store) advanceFor(b *kv.Batch) error {
	s.redo.advancing.Lock()
	defer s.redo.advancing.Unlock()
	if s.redo.ring.Fits(b) {
		return nil
	}
	return s.advanceLocked()
}

// mark returns what will be durable when everything that was committed is synced,
// with txMu held.
func (s *Store) mark() redo.Mark {
	m := redo.Mark{Base: s.ts.Load()}
	if logs, err := numbered(s.opts.Dir, ".vlog"); err == nil {
		m.File = uint32(last(logs))
	}
	// Badger does not say where it writes to. But what stands before a value that is
	// there has been written before it.
	_ = s.withItem(s.lastValue, func(item *badger.Item) error {
		if p, ok := place(item); ok && p.File == m.File {
			m.Offset = int64(p.Start) + int64(p.Size)
		}
		return nil
	})
	return m
}
