package badgerkv

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// With SyncWrites each batch is written to the redo log and synced there while
// Badger applies it without a sync. Both are done when Commit returns: what a
// process that is killed leaves is in Badger, and what a crash of the system takes
// from Badger is in the redo log. See docs/FORMAT.md.
//
// Batches that are large go to Badger alone, and the two files that they change
// are synced: writing them twice would cost more than the second sync.

// redoLog is the redo log of a store in use.
type redoLog struct {
	ring *redo.Ring
	// largest is the size of a batch, in bytes, from which it is not written to the
	// redo log.
	largest int
	// aside is how many bytes went to Badger alone since it was advanced. Recovery
	// verifies their values, so it is advanced as well when they are more than most.
	aside atomic.Int64
	most  int64

	advancing sync.Mutex // one call of advance, and none while Close takes the files away

	kick chan struct{} // for the goroutine that advances it; one token
	quit chan struct{}
	done sync.WaitGroup
}

const (
	// redoLargest bounds what is written to both, in bytes.
	redoLargest = 1 << 20
	// asideMost bounds what recovery has to read, in bytes.
	asideMost = 256 << 20
	// growWithin is how soon the ring has to be advanced again for it to be too small.
	growWithin = 300 * time.Millisecond
)

// redoKey is where the ring's ID and key are in the store. It begins as the keys
// of filler, which are the store's own as well.
var redoKey = []byte{FillerPrefix, 'r'}

const redoSecret = 32 // bytes of the key of the ring

// identity is what is stored under redoKey.
type identity struct {
	id     redo.ID
	secret []byte // nil for none
}

func newIdentity(encrypted bool) identity {
	var i identity
	rand.Read(i.id[:])
	return i.withSecret(encrypted)
}

// withSecret returns i with another key.
func (i identity) withSecret(encrypted bool) identity {
	i.secret = nil
	if encrypted {
		i.secret = make([]byte, redoSecret)
		rand.Read(i.secret)
	}
	return i
}

func (i identity) encode() []byte { return append(i.id[:], i.secret...) }

func decodeIdentity(b []byte) (i identity, err error) {
	if len(b) != len(i.id) && len(b) != len(i.id)+redoSecret {
		return i, fmt.Errorf("%w: the identity of the redo log has %d bytes", shardlog.ErrCorrupt, len(b))
	}
	copy(i.id[:], b)
	if len(b) > len(i.id) {
		i.secret = b[len(i.id):]
	}
	return i, nil
}

// takes reports whether a batch goes to the redo log.
func (l *redoLog) takes(b *kv.Batch) bool {
	if l == nil || b.Bytes > l.largest || !redo.Fits(b) {
		return false
	}
	if _, size := l.ring.Use(); int64(b.Bytes) > size/4 {
		l.wake() // it grows
		return false
	}
	return true
}

// bypassed notes that a batch went to Badger alone.
func (l *redoLog) bypassed(b *kv.Batch) {
	if l.aside.Add(int64(b.Bytes)) > l.most {
		l.wake()
	}
}

func (l *redoLog) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// commitTwice writes a batch to the redo log while Badger applies it, with txMu
// held.
func (s *Store) commitTwice(b *kv.Batch) error {
	version, applied, err := s.send(b)
	if err != nil {
		return err
	}
	written := s.redo.ring.Append(version, b)
	if err := errors.Join(<-applied, written); err != nil {
		return s.failed(err)
	}
	if used, size := s.redo.ring.Use(); used > size/3 {
		s.redo.wake()
	}
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

// advance makes Badger's files durable and gives back the part of the ring that
// was written before.
func (s *Store) advance() error {
	s.redo.advancing.Lock()
	defer s.redo.advancing.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.txMu.Lock()
	p, m := s.redo.ring.Position(), s.mark()
	s.redo.aside.Store(0)
	s.txMu.Unlock()
	if err := s.syncFiles(); err != nil {
		return s.failed(err)
	}
	if err := s.redo.ring.Release(p, m); err != nil {
		return s.failed(err)
	}
	s.durable.Store(m.Base)
	return s.log.failure()
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

// run advances the ring in time, so that writers need not wait for room.
func (l *redoLog) run(s *Store) {
	defer l.done.Done()
	var last time.Time
	for {
		select {
		case <-l.quit:
			return
		case <-l.kick:
		}
		if time.Since(last) < growWithin && l.aside.Load() <= l.most {
			l.grow(s)
		}
		last = time.Now()
		if err := s.advance(); err != nil {
			if !s.closed.Load() {
				s.warn("the redo log cannot be advanced", "error", err)
				l.ring.Fail(err) // who waits for room would do so without end
			}
			return
		}
	}
}

// grow makes the ring larger where the disk has room. One that is as large as it
// may be stays as it is.
func (l *redoLog) grow(s *Store) {
	_, size := l.ring.Use()
	if size >= s.opts.RedoMax || s.space.check(2*size, false) != nil {
		return
	}
	n, err := l.ring.Grow()
	s.space.took(n)
	if err != nil {
		s.warn("the redo log stays as small as it is", "error", err)
	}
}

// stop ends the goroutine of run, and returns when nothing is advanced any more.
// The store is marked as closed.
func (l *redoLog) stop() {
	if l != nil {
		close(l.quit)
		l.done.Wait()
		l.advancing.Lock() // one that is under way ends first
		defer l.advancing.Unlock()
	}
}

// closeRedo closes the ring. Clean says that Badger was closed and has everything
// on disk.
func (s *Store) closeRedo(clean bool) error {
	if s.redo == nil {
		return nil
	}
	var err error
	if clean {
		err = s.redo.ring.Reset(redo.Mark{Base: s.ts.Load(), Clean: true}, nil)
	}
	return errors.Join(err, s.redo.ring.Close())
}

func (s *Store) redoOptions(i identity) redo.Options {
	return redo.Options{Path: s.path(badgerfile.RedoName), ID: i.id, Key: i.secret, Max: s.opts.RedoMax, Open: s.disk.OpenRedo}
}

// openRedo applies what the redo log has and Badger has not, and prepares the
// redo log if the store has use for one. Badger is open, and nothing else uses
// it yet.
func (s *Store) openRedo(encrypted bool) error {
	i, ring, err := s.findRedo()
	if err != nil {
		return err
	}
	if ring != nil {
		if err := s.recover(ring); err != nil {
			return errors.Join(err, ring.Close())
		}
	}
	if !s.opts.SyncWrites {
		return s.dropRedo(ring)
	}
	// An earlier process may not have synced what it wrote, and from now on
	// everything that is there counts as durable.
	if err := s.syncFiles(); err != nil {
		if ring != nil {
			err = errors.Join(err, ring.Close())
		}
		return err
	}
	if ring, err = s.beginRedo(i, ring, encrypted); err != nil {
		return err
	}
	s.durable.Store(s.ts.Load())
	s.redo = &redoLog{ring: ring, largest: redoLargest, most: asideMost, kick: make(chan struct{}, 1), quit: make(chan struct{})}
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

// beginRedo returns a ring that is empty. It gets a new key each time, which the
// store has, durably, before the ring is used.
func (s *Store) beginRedo(i identity, ring *redo.Ring, encrypted bool) (*redo.Ring, error) {
	if ring == nil {
		i = newIdentity(encrypted)
		made, err := redo.Create(s.redoOptions(i))
		if isFull(err) {
			err = fmt.Errorf("%w: no redo log can be made: %v", shardlog.ErrNoSpace, err)
		}
		if err != nil {
			return nil, err
		}
		if err := errors.Join(s.disk.SyncDir(s.opts.Dir), s.storeIdentity(i)); err != nil {
			return nil, errors.Join(err, made.Close())
		}
		ring = made
	} else if encrypted {
		i = i.withSecret(true)
	}
	m := func() redo.Mark {
		s.txMu.Lock()
		defer s.txMu.Unlock()
		return s.mark()
	}()
	// The ring is empty first: what it has could not be read with another key.
	err := ring.Reset(m, i.secret)
	if err == nil && encrypted {
		err = s.storeIdentity(i)
	}
	if err != nil {
		return nil, errors.Join(err, ring.Close())
	}
	return ring, nil
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

// dropRedo removes the redo log of a store that does not sync each commit, also one
// that a process has left which was killed before it was the store's, or since it is
// not.
func (s *Store) dropRedo(ring *redo.Ring) error {
	path := s.path(badgerfile.RedoName)
	if ring == nil {
		if !exists(path) {
			return nil
		}
		if err := s.noteNoRedo(); err != nil {
			return err
		}
		return os.Remove(path)
	}
	s.txMu.Lock()
	defer s.txMu.Unlock()
	var b kv.Batch
	b.Delete(redoKey)
	err := s.commit(&b)
	if err == nil {
		err = s.syncFiles()
	}
	if err == nil {
		err = s.noteNoRedo()
	}
	if err = errors.Join(err, ring.Close()); err != nil {
		return err
	}
	return os.Remove(path)
}

// viewRedo adds what the redo log of a directory has to a view.
func viewRedo(f *Files, v *View) error {
	b, err := v.Get(redoKey)
	if errors.Is(err, shardlog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	i, err := decodeIdentity(b)
	if err != nil {
		return err
	}
	v.Recovers()
	ring, err := redo.Open(redo.Options{Path: f.Dir.File(badgerfile.RedoName), ID: i.id, Key: i.secret, Open: redo.OpenReadOnly})
	if err != nil {
		return err
	}
	err = ring.Read(func(frame redo.Frame) error {
		for _, op := range frame.Ops {
			v.Put(badgerfile.Entry{Key: op.Key, Value: op.Value, Version: frame.Version, Deleted: op.Delete})
		}
		return nil
	})
	return errors.Join(err, ring.Close())
}
