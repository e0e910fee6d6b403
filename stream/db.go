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
	"regexp"
	"sort"
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

	// deletedTo is the largest counter of the streams that were deleted since
	// the database was opened.
	deletedTo atomic.Uint64

	rows     rowLocks
	written  writtenRows
	watchers checkpoint.Watchers

	// manage lets one change of the set of streams run at a time, without
	// holding mu while it is committed.
	manage chan struct{}

	wake chan struct{} // for the janitor, one token
	quit chan struct{}
	wg   sync.WaitGroup
}

func openStore(dir string, o Options) (kv.Store, error) {
	if o.InMemory {
		return kv.NewMemory(), nil
	}
	return badgerkv.Open(badgerkv.Options{
		Dir: dir, SyncWrites: o.Durability == SyncAlways, ValueLogFile: o.ValueLogFileBytes,
		EncryptionKey: o.EncryptionKey, MinFree: o.MinFreeBytes, Logger: o.Logger, RedoMax: o.RedoLogBytes,
		Accept: acceptFormat,
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
	if err := db.refusal(ctx); err != nil {
		return &shardlog.Error{Op: op, Stream: stream, Err: err}
	}
	return nil
}

// refusal returns why no call with ctx can be served, or nil.
func (db *DB) refusal(ctx context.Context) error {
	switch {
	case ctx == nil:
		return &shardlog.InvalidError{Field: "ctx", Value: nil, Limit: "not nil"}
	case db.closed.Load():
		return shardlog.ErrClosed
	}
	return shardlog.ContextError(ctx) // nil while it has not ended
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

// lookUp returns the stream with the name, or nil.
func (db *DB) lookUp(name string) *Stream {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.streams[name]
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

func (db *DB) wakeJanitor() {
	select {
	case db.wake <- struct{}{}:
	default:
	}
}

func (db *DB) warn(msg string, err error) {
	if db.opts.Logger != nil && !errors.Is(err, shardlog.ErrClosed) {
		db.opts.Logger.Warn("shardlog: "+msg, "error", err)
	}
}
