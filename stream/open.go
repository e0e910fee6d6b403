package stream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/internal/once"
)

// Open opens the database in dir, or creates one. One DB has a directory at a
// time: a second gets shardlog.ErrLocked, also in the same process. Opts may
// be nil. Open blocks until the database was recovered, which takes about a
// second per some million stored blocks; it also reads the records within a
// Config.DedupWindow.
//
// The files are looked at before anything is written. Damaged ones are refused
// with a *shardlog.DamageError for each; damage in stored records is reported
// when they are read. After an end without Close sequence numbers continue far
// above those that were given out.
//
// A disk with less than Options.MinFreeBytes is no obstacle: the database can be
// read, and refuses records with ErrNoSpace. Open itself needs half of that, and
// at most 32 MiB; with less its error matches ErrNoSpace.
//
// Errors match shardlog.ErrInvalid, ErrLocked, ErrVersion, ErrCorrupt or
// ErrNoSpace, or are those of the file system.
func Open(dir string, opts *Options) (*DB, error) {
	o, err := opts.withDefaults(dir)
	if err != nil {
		return nil, &shardlog.Error{Op: "open", Err: err}
	}
	store, err := openStore(dir, o)
	if err != nil {
		return nil, &shardlog.Error{Op: "open", Err: err}
	}
	db, err := openOn(store, o)
	if err != nil {
		return nil, &shardlog.Error{Op: "open", Err: errors.Join(err, store.Close())}
	}
	return db, nil
}

// openOn opens a database on a store, which it owns unless it fails.
func openOn(store kv.Store, o Options) (*DB, error) {
	db := &DB{
		opts: o, streams: map[string]*Stream{},
		manage: make(chan struct{}, 1), wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	meta, err := readMeta(store)
	if err != nil {
		return nil, err
	}
	if !meta.fresh && meta.format < formatVersion {
		var b kv.Batch
		b.Set(keyFormat, strconv.AppendInt(nil, formatVersion, 10))
		b.Small = true
		if err := store.Commit(&b); err != nil {
			return nil, err
		}
		// An earlier program looks for it in Badger alone.
		if err := store.Sync(); err != nil {
			return nil, err
		}
	}
	if meta.fresh {
		var b kv.Batch
		b.Set(keyFormat, strconv.AppendInt(nil, formatVersion, 10))
		b.Set(keyNext, []byte("1"))
		b.Set(keyState, []byte(stateOpen+o.Durability.String()))
		b.Small = true
		if err := store.Commit(&b); err != nil {
			return nil, err
		}
	}
	if err := db.load(store, meta); err != nil {
		return nil, err
	}
	db.wg.Add(1)
	go db.janitor()
	return db, nil
}

// load starts the log with the streams that were stored.
func (db *DB) load(store kv.Store, meta *stored) error {
	byID := map[uint32]*Stream{}
	for id, sm := range meta.streams {
		if !sm.Deleting {
			byID[id] = newStream(db, id, *sm)
		}
	}
	var configs []logstore.Config
	var stale [][]byte
	for id, sm := range meta.shards {
		st := byID[id.Stream]
		if st == nil {
			stale = append(stale, shardKey(id)) // its stream was being created or deleted
			continue
		}
		configs = append(configs, st.shardConfig(id, sm))
	}
	for id, sm := range meta.streams {
		if sm.Deleting {
			stale = append(stale, streamKey(id))
		}
	}
	var err error
	db.log, err = logstore.Open(store, logstore.Options{
		SyncEvery: db.syncEvery(), CommitsSynced: db.opts.Durability == SyncAlways, TailBytes: db.opts.TailBytes, CacheBytes: db.opts.CacheBytes,
		Logger: db.opts.Logger, Wake: db.wakeJanitor,
	}, configs, meta.recovery(bootOf(store)))
	if err != nil {
		return err
	}
	if err := db.keepFloors(meta); err != nil {
		return errors.Join(err, db.log.Close())
	}
	shards := map[uint32][]*streamShard{}
	for _, c := range configs {
		st := byID[c.ID.Stream]
		shards[c.ID.Stream] = append(shards[c.ID.Stream], st.newShard(db.log.Shard(c.ID), *meta.shards[c.ID]))
	}
	for id, st := range byID {
		st.begin(newRoutes(shards[id]))
		if err := st.routes.Load().check(); err != nil {
			return errors.Join(fmt.Errorf("%w: stream %q: %v", shardlog.ErrCorrupt, st.name, err), db.log.Close())
		}
		if err := st.loadIDs(); err != nil {
			return errors.Join(err, db.log.Close())
		}
		db.streams[st.name] = st
	}
	more, err := db.loadProducers(byID)
	if err == nil {
		err = db.deleteKeys(context.Background(), append(stale, more...))
	}
	if err == nil {
		err = db.mark(openState(db.opts.Durability, bootOf(store)))
	}
	if err != nil {
		return errors.Join(err, db.log.Close())
	}
	return nil
}

// keepFloors stores which numbers must not be used again because records that
// had them may be lost. Until that is on disk the database stays marked as one
// that was not closed, so that the next Open looks again.
func (db *DB) keepFloors(meta *stored) error {
	var ids []logstore.ID
	for id, sm := range meta.shards {
		s := db.log.Shard(id)
		if s == nil {
			continue
		}
		if floor, skipped := s.Floor(); skipped && floor > sm.Floor {
			sm.Floor = floor
			ids = append(ids, id)
		}
	}
	for part := range slices.Chunk(ids, shardsPerChange) {
		err := db.log.Do(context.Background(), func(tx *logstore.Tx) error {
			for _, id := range part {
				tx.Set(shardKey(id), mustJSON(meta.shards[id]))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return db.log.Sync()
}

// mark stores the state of the database: open, or closed in order.
func (db *DB) mark(state string) error {
	return db.log.Do(context.Background(), func(tx *logstore.Tx) error {
		tx.Set(keyState, []byte(state))
		return nil
	})
}

// Close stores what has been accepted, ends all waiting calls with
// shardlog.ErrClosed and releases the directory. It blocks until that is done;
// it is idempotent, and later calls return nil.
//
// Where nothing can be written any more Close does not wait for that to change:
// the error matches shardlog.ErrNoSpace if the disk is full, and ErrStorage if
// the directory was removed or the file system refuses writes. All that was
// acknowledged is in the files, for the next Open. The directory stays
// locked by this process until it can be written to again.
func (db *DB) Close() error {
	var err error
	db.close.Do(func() {
		db.closed.Store(true)
		close(db.quit)
		db.wg.Wait()
		if err = db.log.CloseWith(db.leave); err != nil {
			err = &shardlog.Error{Op: "close", Err: err}
		}
	})
	return err
}

// leave marks the database as closed in order, once nothing writes to it any more
// and everything is on disk, whatever the Durability.
func (db *DB) leave(store kv.Store) error {
	b := kv.Batch{Small: true}
	b.Set(keyState, []byte(stateClean))
	err := store.Sync()
	if err == nil {
		err = store.Commit(&b)
	}
	if err == nil && db.opts.Durability != SyncAlways {
		err = store.Sync()
	}
	if errors.Is(err, shardlog.ErrNoSpace) {
		return nil // without the mark the next Open only checks more
	}
	return err
}

// RotateEncryptionKey replaces the encryption key of a closed database; a nil
// old key encrypts one that was not, a nil new one stops encrypting. It
// rewrites the registry of data keys, not the data: files written before stay
// as they are, under their data key or unencrypted, until retention removes
// them or reclaiming rewrites them. The error matches shardlog.ErrInvalid if
// old is not the key.
func RotateEncryptionKey(dir string, oldKey, newKey []byte) error {
	if _, err := os.Stat(dir); err != nil {
		return &shardlog.Error{Op: "rotate encryption key", Err: err}
	}
	switch len(newKey) {
	case 0, 16, 24, 32:
	default:
		return &shardlog.Error{Op: "rotate encryption key", Err: &shardlog.InvalidError{
			Field: "newKey", Value: fmt.Sprintf("of %d bytes", len(newKey)), Limit: "16, 24 or 32 bytes"}}
	}
	if _, err := os.Stat(filepath.Join(dir, "KEYREGISTRY")); err != nil {
		return &shardlog.Error{Op: "rotate encryption key", Err: fmt.Errorf("%w: no database: %v", shardlog.ErrNotFound, err)}
	}
	// Opening it shows that the key is right and that nobody else has it open.
	store, err := badgerkv.Open(badgerkv.Options{Dir: dir, ValueLogFile: 64 << 20, EncryptionKey: oldKey, Accept: acceptFormat})
	if err == nil {
		err = store.Close()
	}
	if err != nil {
		return &shardlog.Error{Op: "rotate encryption key", Err: err}
	}
	if err := badgerkv.RotateKey(dir, oldKey, newKey); err != nil {
		return &shardlog.Error{Op: "rotate encryption key", Err: err}
	}
	return nil
}

// loadProducers reads the identities, without their numbers, and returns the
// keys of streams that do not exist any more.
func (db *DB) loadProducers(byID map[uint32]*Stream) (stale [][]byte, err error) {
	keys, err := once.Keys(db.log, nil)
	if err != nil {
		return nil, err
	}
	of := map[uint32][][]byte{}
	for _, k := range keys {
		id, ok := once.StreamOf(k)
		if !ok || byID[id] == nil {
			stale = append(stale, k)
			continue
		}
		of[id] = append(of[id], k)
	}
	for id, st := range byID {
		more, err := st.producers.Load(of[id])
		if err != nil {
			return nil, err
		}
		stale = append(stale, more...)
	}
	return stale, nil
}

// loadIDs fills the index of dedup IDs from the records. IDs of damaged records
// are not known; other errors end it.
func (st *Stream) loadIDs() error {
	return st.dedup.Load(func(from int64, add func([]byte, shardlog.SequenceNumber, int64)) error {
		for _, sh := range st.routes.Load().all {
			err := sh.s.ScanDedupIDs(from, add)
			if errors.Is(err, shardlog.ErrCorrupt) {
				st.db.warn("dedup IDs of damaged records in stream "+st.name+" are not known", err)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}
