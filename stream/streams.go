package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/internal/once"
)

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

// createLocked stores a stream that is not there and makes it visible, with
// manage held. It does not respect ctx, so that no half of a stream remains.
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

// create stores a stream. Its shards come first and the stream last, so an
// interrupted creation leaves no stream.
func (db *DB) create(ctx context.Context, name string, cfg Config) (*Stream, error) {
	now := time.Now()
	id, err := db.nextStream(ctx)
	if err != nil {
		return nil, err
	}
	st := newStream(db, id, streamMeta{
		Name: name, ID: rand.Text(), Created: now.UnixMilli(), Retention: cfg.Retention, RetentionBytes: cfg.RetentionBytes,
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

// delete removes the stream; DB.manage is held. Until the mark is stored nothing
// has happened; from then on the stream is gone, and an error is one of
// reclaiming its space.
func (st *Stream) delete(ctx context.Context) error {
	if err := st.markDeleted(ctx); err != nil {
		return err
	}
	st.db.noteCounters(st)
	st.db.mu.Lock()
	delete(st.db.streams, st.name)
	st.db.mu.Unlock()
	if err := st.drop(ctx); err != nil {
		if !errors.Is(err, shardlog.ErrUnknownOutcome) {
			err = fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, err)
		}
		return fmt.Errorf("the stream is deleted; its space is reclaimed when the database is opened again: %w", err)
	}
	return nil
}

// markDeleted stores that the stream is deleted. It does not respect ctx once
// it has the locks, so that it is certain whether the mark is stored.
func (st *Stream) markDeleted(ctx context.Context) error {
	// With config held, nobody who changes the configuration stores the stream
	// again without the mark.
	if err := st.config.Lock(ctx); err != nil {
		return err
	}
	defer st.config.Unlock()
	if err := st.shape.Lock(ctx); err != nil {
		return err
	}
	defer st.shape.Unlock()
	meta := *st.meta.Load()
	meta.Deleting = true
	err := st.db.log.Do(context.WithoutCancel(ctx), func(tx *logstore.Tx) error {
		tx.Set(streamKey(st.id), mustJSON(&meta))
		return nil
	})
	if err == nil {
		st.deleted.Store(true)
	}
	return err
}

// drop removes the records of a deleted stream, and what else is stored of it.
func (st *Stream) drop(ctx context.Context) error {
	for _, sh := range st.routes.Load().all {
		if err := st.dropShard(ctx, sh); err != nil {
			return err
		}
	}
	if err := st.dropProducers(ctx); err != nil {
		return err
	}
	return st.db.log.Do(ctx, func(tx *logstore.Tx) error {
		tx.Delete(streamKey(st.id))
		return nil
	})
}

func (st *Stream) dropShard(ctx context.Context, sh *streamShard) error {
	return st.db.log.Drop(ctx, sh.s, func(tx *logstore.Tx) error {
		tx.Delete(shardKey(sh.s.ID()))
		return nil
	})
}

// dropProducers removes what is stored of a deleted stream's producers.
func (st *Stream) dropProducers(ctx context.Context) error {
	keys, err := once.Keys(st.db.log, &st.id)
	return errors.Join(err, st.db.deleteKeys(ctx, keys))
}
