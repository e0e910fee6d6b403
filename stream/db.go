// Package stream is the log: a database in one directory that holds streams,
// each a set of shards with ranges of hash keys, in Badger.
//
// A Stream is a shardlog.Sink and a shardlog.Source. All methods of DB and
// Stream are safe for concurrent use, and after Close they return
// shardlog.ErrClosed.
package stream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/logstore"
)

// DB is an open database. Use Open.
type DB struct {
	opts Options
	log  *logstore.Log

	mu      sync.Mutex
	streams map[string]*Stream
	closed  atomic.Bool
	close   sync.Once

	rows     rowLocks
	watchers checkpoint.Watchers

	// manage lets one change of the set of streams run at a time, without
	// holding mu while it is committed.
	manage chan struct{}

	wake chan struct{} // for the janitor, one token
	quit chan struct{}
	wg   sync.WaitGroup
}

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

func openStore(dir string, o Options) (kv.Store, error) {
	if o.InMemory {
		return kv.NewMemory(), nil
	}
	return badgerkv.Open(badgerkv.Options{
		Dir: dir, SyncWrites: o.Durability == SyncAlways, ValueLogFile: o.ValueLogFileBytes,
		EncryptionKey: o.EncryptionKey, MinFree: o.MinFreeBytes, Logger: o.Logger,
	})
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
		SyncEvery: db.syncEvery(), TailBytes: db.opts.TailBytes, CacheBytes: db.opts.CacheBytes,
		Logger: db.opts.Logger, Wake: db.wakeJanitor,
	}, configs, meta.recovery())
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
		err = db.mark(stateOpen + db.opts.Durability.String())
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

// largestRecord is what fits into a value log file in any case, with its
// headers and with the small records that may come into one block with it.
func (db *DB) largestRecord() int {
	if db.opts.InMemory {
		return shardlog.MaxRecordSize
	}
	return int(min(shardlog.MaxRecordSize, db.opts.ValueLogFileBytes-256<<10))
}

func (db *DB) syncEvery() time.Duration {
	if db.opts.Durability == SyncInterval && !db.opts.InMemory {
		return db.opts.SyncInterval
	}
	return 0
}

// syncNow writes what was committed to disk, where a commit does not do that.
func (db *DB) syncNow() error {
	if db.opts.InMemory || db.opts.Durability == SyncAlways {
		return nil
	}
	return db.log.Sync()
}

// deleteKeys removes metadata, some keys at a time.
func (db *DB) deleteKeys(ctx context.Context, keys [][]byte) error {
	for len(keys) > 0 {
		n := min(len(keys), 100)
		err := db.log.Do(ctx, func(tx *logstore.Tx) error {
			for _, k := range keys[:n] {
				tx.Delete(k)
			}
			return nil
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// Close stores what has been accepted, ends all waiting calls with
// shardlog.ErrClosed and releases the directory. It blocks until that is done;
// it is idempotent, and later calls return nil.
//
// Where nothing can be written any more Close does not wait for that to change:
// the error matches shardlog.ErrNoSpace if the disk is full, and ErrStorage if
// the directory was removed or the file system refuses writes. All that was
// acknowledged is in the write-ahead log, for the next Open. The directory stays
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

// Sync returns when everything acknowledged before is on disk, whatever the
// Durability.
func (db *DB) Sync() error {
	if db.closed.Load() {
		return &shardlog.Error{Op: "sync", Err: shardlog.ErrClosed}
	}
	if err := db.log.Sync(); err != nil {
		return &shardlog.Error{Op: "sync", Err: err}
	}
	return nil
}

var nameOK = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

func checkName(name string) error {
	if !nameOK.MatchString(name) {
		return &shardlog.InvalidError{Field: "stream name", Value: name, Limit: "1 to 128 of a-z A-Z 0-9 _ . -"}
	}
	return nil
}

// enter checks what every call checks first.
func (db *DB) enter(ctx context.Context, op, stream string) error {
	var err error
	switch {
	case ctx == nil:
		err = &shardlog.InvalidError{Field: "ctx", Value: nil, Limit: "not nil"}
	case db.closed.Load():
		err = shardlog.ErrClosed
	case ctx.Err() != nil:
		err = shardlog.ContextError(ctx)
	default:
		return nil
	}
	return &shardlog.Error{Op: op, Stream: stream, Err: err}
}

// lockStreams waits for the turn to change the set of streams.
func (db *DB) lockStreams(ctx context.Context) error {
	select {
	case db.manage <- struct{}{}:
		return nil
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	case <-db.quit:
		return shardlog.ErrClosed
	}
}

func (db *DB) unlockStreams() { <-db.manage }

// Create creates a stream. The name is 1 to 128 letters, digits, "_", "." and
// "-". Errors match shardlog.ErrInvalid, with all faults of cfg, or ErrExists;
// see Ensure for a program that is run again.
func (db *DB) Create(ctx context.Context, name string, cfg Config) (*Stream, error) {
	fail := func(err error) (*Stream, error) {
		return nil, &shardlog.Error{Op: "create", Stream: name, Err: err}
	}
	if err := db.enter(ctx, "create", name); err != nil {
		return nil, err
	}
	cfg, err := cfg.withDefaults(db.largestRecord())
	if err = errors.Join(checkName(name), err); err != nil {
		return fail(err)
	}
	if err := db.lockStreams(ctx); err != nil {
		return fail(err)
	}
	defer db.unlockStreams()
	if db.lookUp(name) != nil {
		return fail(shardlog.ErrExists)
	}
	st, err := db.createLocked(ctx, name, cfg)
	if err != nil {
		return fail(err)
	}
	return st, nil
}

// lookUp returns the stream with the name, or nil.
func (db *DB) lookUp(name string) *Stream {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.streams[name]
}

// createLocked stores a stream that is not there and makes it visible, with
// manage held. It does not respect ctx: half a stream is none.
func (db *DB) createLocked(ctx context.Context, name string, cfg Config) (*Stream, error) {
	st, err := db.create(context.WithoutCancel(ctx), name, cfg)
	if err != nil {
		return nil, err
	}
	db.mu.Lock()
	db.streams[name] = st
	db.mu.Unlock()
	db.wakeJanitor() // its records may expire before those of all other streams
	return st, nil
}

// create stores a stream. Its shards come first and the stream last, so that
// one that was interrupted is no stream.
func (db *DB) create(ctx context.Context, name string, cfg Config) (*Stream, error) {
	now := time.Now()
	id, err := db.nextStream(ctx)
	if err != nil {
		return nil, err
	}
	st := newStream(db, id, streamMeta{
		Name: name, Created: now.UnixMilli(), Retention: cfg.Retention, RetentionBytes: cfg.RetentionBytes,
		MaxRecordSize: cfg.MaxRecordSize, Compression: cfg.Compression, Hash: cfg.Hash, Limits: cfg.Limits, DedupWindow: cfg.DedupWindow, Tags: cfg.Tags,
		Attributes: cfg.Attributes,
	})
	metas := st.firstShards(cfg.Shards, now)
	var shards []*streamShard
	for from := 0; from < len(metas); from += shardsPerChange {
		step := metas[from:min(from+shardsPerChange, len(metas))]
		created, err := db.log.Change(ctx, st.describeChange(uint32(from), step, nil, nil))
		if err != nil {
			return nil, err
		}
		for i, s := range created {
			shards = append(shards, st.newShard(s, step[i]))
		}
	}
	st.begin(newRoutes(shards))
	return st, db.log.Do(ctx, func(tx *logstore.Tx) error {
		tx.Set(streamKey(id), mustJSON(st.meta.Load()))
		return nil
	})
}

// nextStream takes a stream number, which is never used again.
func (db *DB) nextStream(ctx context.Context) (id uint32, err error) {
	err = db.log.Do(ctx, func(tx *logstore.Tx) error {
		v, err := tx.Get(keyNext)
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(string(v), 10, 32)
		if err != nil {
			return fmt.Errorf("%w: next stream number %q", shardlog.ErrCorrupt, v)
		}
		id = uint32(n)
		tx.Set(keyNext, strconv.AppendUint(nil, n+1, 10))
		return nil
	})
	return id, err
}

// Stream returns the stream with the name; the error matches
// shardlog.ErrNotFound if there is none.
func (db *DB) Stream(ctx context.Context, name string) (*Stream, error) {
	if err := db.enter(ctx, "stream", name); err != nil {
		return nil, err
	}
	if st := db.lookUp(name); st != nil {
		return st, nil
	}
	return nil, &shardlog.Error{Op: "stream", Stream: name, Err: shardlog.ErrNotFound}
}

// Streams returns all streams, by name. The slice is the caller's. It does not
// block; the only errors are those of a closed database and of ctx.
func (db *DB) Streams(ctx context.Context) ([]*Stream, error) {
	if err := db.enter(ctx, "streams", ""); err != nil {
		return nil, err
	}
	return db.list(), nil
}

func (db *DB) list() []*Stream {
	db.mu.Lock()
	defer db.mu.Unlock()
	all := make([]*Stream, 0, len(db.streams))
	for _, st := range db.streams {
		all = append(all, st)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all
}

// Delete removes a stream with all its records, permanently. Calls on it get
// shardlog.ErrNotFound from then on. It blocks until the records are removed.
//
// The error matches shardlog.ErrNotFound if there is no such stream. If it
// matches shardlog.ErrUnknownOutcome, because ctx ended or the storage failed
// after the deletion was stored, the stream is deleted, and its space is
// reclaimed when the database is opened again. After any other error nothing was
// changed.
func (db *DB) Delete(ctx context.Context, name string) error {
	fail := func(err error) error { return &shardlog.Error{Op: "delete", Stream: name, Err: err} }
	if err := db.enter(ctx, "delete", name); err != nil {
		return err
	}
	if err := db.lockStreams(ctx); err != nil {
		return fail(err)
	}
	defer db.unlockStreams()
	st := db.lookUp(name)
	if st == nil {
		return fail(shardlog.ErrNotFound)
	}
	if err := st.delete(ctx); err != nil {
		return fail(err)
	}
	return nil
}

// RotateEncryptionKey replaces the encryption key of a closed database; a nil
// old key encrypts one that was not, a nil new one stops encrypting. It
// rewrites the registry of data keys, not the data: files written before keep
// the data key, or the lack of one, that they have, until retention or
// reclaiming rewrites them. The error matches shardlog.ErrInvalid if old is
// not the key.
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
	store, err := badgerkv.Open(badgerkv.Options{Dir: dir, SyncWrites: true, ValueLogFile: 64 << 20, EncryptionKey: oldKey})
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
