package badgerkv

import (
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// closeRedo closes the ring. Clean says that Badger was closed and has everything
// on disk.
func (s *Store) closeRedo(clean bool) error {
	l := s.redo
	if l == nil {
		return nil
	}
	var err error
	if clean && (l.begun.Load() || l.made) {
		end := l.ring.End()
		if err = l.ring.Sync(); err == nil {
			err = l.ring.Release(l.first(end), redo.Mark{Base: s.ts.Load(), Clean: true, Last: end.Seq - 1}, true)
		}
	}
	return errors.Join(err, l.ring.Close())
}

func (s *Store) redoOptions(i identity) redo.Options {
	return redo.Options{Path: s.path(badgerfile.RedoName), ID: i.id, Key: i.key, Open: s.disk.OpenRedo, TurnRoom: s.opts.RedoTurn, Filling: func() {
		if l := s.redo; l != nil {
			l.wake()
		}
	}}
}

// openRedo applies what the redo log has and Badger has not. Badger is open, and nothing
// else uses it yet. Commits use the redo log when the journal was begun, see
// journal.Restart.
func (s *Store) openRedo(encrypted bool) error {
	i, ring, err := s.findRedo()
	if err != nil {
		return err
	}
	made := ring == nil
	var onDisk uint64
	if ring != nil {
		if m := ring.Mark(); m.Clean && m.Base == s.ts.Load() {
			onDisk = m.Base
		}
		if err := s.recover(ring); err != nil {
			return errors.Join(err, ring.Close())
		}
	} else if i, ring, err = s.makeRedo(); err != nil {
		return err
	}
	if s.opts.SyncWrites {
		// An earlier process may not have synced what it wrote, and from now on
		// everything that is there counts as durable.
		if err := s.syncFiles(); err != nil {
			return errors.Join(err, ring.Close())
		}
		onDisk = s.ts.Load()
	}
	s.durable.Store(s.ts.Load())
	s.redo = &redoLog{ring: ring, synced: s.opts.SyncWrites, largest: redoLargest, most: asideMost, id: i, encrypted: encrypted, made: made, onDisk: onDisk,
		mayLose: s.files == nil || !s.files.Inventory.SameBoot(), needed: ring.End(), kick: make(chan struct{}, 1), quit: make(chan struct{})}
	s.redo.done.Add(1)
	go s.redo.run(s)
	return nil
}

// findRedo opens the redo log that the store has; ring is nil if it has none.
func (s *Store) findRedo() (i identity, ring *redo.Ring, err error) {
	v, err := s.getAt(newest, redoKey)
	if errors.Is(err, shardlog.ErrNotFound) {
		return i, nil, nil
	}
	if err == nil {
		i, err = decodeIdentity(v)
	}
	if err == nil {
		ring, err = redo.Open(s.redoOptions(i))
	}
	return i, ring, err
}

// makeRedo makes the redo log of a store that has none.
func (s *Store) makeRedo() (identity, *redo.Ring, error) {
	i := newIdentity()
	ring, err := redo.Create(s.redoOptions(i))
	if isFull(err) {
		err = fmt.Errorf("%w: no redo log can be made: %v", shardlog.ErrNoSpace, err)
	}
	if err != nil {
		return i, nil, err
	}
	// The name is durable before the store says that it has the file.
	if err = s.disk.SyncDir(s.opts.Dir); err == nil {
		err = s.storeIdentity(i)
	}
	if err != nil {
		return i, nil, errors.Join(err, ring.Close())
	}
	return i, ring, nil
}

// storeIdentity stores which ring is this store's, durably.
func (s *Store) storeIdentity(i identity) error {
	s.txMu.Lock()
	defer s.txMu.Unlock()
	var b kv.Batch
	b.Set(redoKey, i.encode())
	if err := s.commit(&b); err != nil {
		return err
	}
	return s.syncFiles()
}
