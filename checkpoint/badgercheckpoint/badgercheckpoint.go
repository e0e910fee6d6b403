// Package badgercheckpoint keeps the checkpoints of consumers in a Badger
// database of the program's own, next to its other keys.
//
// A checkpoint can be part of the program's own transaction
// (consumer.CheckpointIn with a *badger.Txn): what the handler writes and the
// checkpoint are then there together, or not at all.
//
// The store of a stream's own database is stream.DB.Checkpoints(), and needs
// nothing of this package.
package badgercheckpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Options say how rows are kept. The zero value of a field means its default.
type Options struct {
	// Prefix begins the keys of the rows; the program must not use keys with
	// it. Up to 1,000 bytes. Defaults to "shardlog/checkpoints/".
	Prefix string
}

// Store is a checkpoint.Store, a checkpoint.TxStore for *badger.Txn, and a
// checkpoint.Watcher. Its methods are safe for concurrent use. Badger lets one
// process at a time open a database, so its workers are in one process.
//
// A row survives the end of the process. Whether it survives that of the
// machine depends on the database's option SyncWrites.
type Store struct {
	db       *badger.DB
	prefix   string
	watchers checkpoint.Watchers
}

var (
	_ checkpoint.TxStore[*badger.Txn] = (*Store)(nil)
	_ checkpoint.Watcher              = (*Store)(nil)
)

// New returns a store in db, which stays the caller's, who closes it after the
// consumers have ended. Opts may be nil. It neither reads nor writes. The error
// matches shardlog.ErrInvalid for a bad argument, such as a database that is
// read only or does not detect conflicts.
func New(db *badger.DB, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Prefix == "" {
		o.Prefix = "shardlog/checkpoints/"
	}
	switch {
	case db == nil:
		return nil, &shardlog.InvalidError{Field: "DB", Value: nil, Limit: "set"}
	case !db.Opts().DetectConflicts || db.Opts().ReadOnly:
		return nil, &shardlog.InvalidError{Field: "DB", Value: db.Opts().Dir, Limit: "opened for writing, with DetectConflicts"}
	case len(o.Prefix) > 1000:
		return nil, &shardlog.InvalidError{Field: "Prefix", Value: o.Prefix, Limit: "at most 1000 bytes"}
	}
	return &Store{db: db, prefix: o.Prefix}, nil
}

// key has lengths, so that no two keys are alike, and so that the rows of a
// group, and of a stream in it, have a prefix in common.
func (s *Store) key(parts ...string) []byte {
	k := []byte(s.prefix)
	for _, p := range parts {
		k = binary.BigEndian.AppendUint16(k, uint16(len(p)))
		k = append(k, p...)
	}
	return k
}

// read returns a row as a transaction sees it, and makes the transaction
// conflict with those that change it.
func read(tx *badger.Txn, key []byte) (r checkpoint.StoredRow, err error) {
	item, err := tx.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return checkpoint.StoredRow{}, nil
	}
	if err != nil {
		return checkpoint.StoredRow{}, err
	}
	err = item.Value(func(v []byte) error {
		r, err = checkpoint.DecodeStored(v)
		return err
	})
	return r, err
}

func fault(op string, k checkpoint.Key, err error) error {
	switch {
	case errors.Is(err, badger.ErrDBClosed):
		err = fmt.Errorf("%w: %w", shardlog.ErrClosed, err)
	case errors.Is(err, badger.ErrBlockedWrites), errors.Is(err, badger.ErrTxnTooBig):
		err = fmt.Errorf("%w: %w", checkpoint.ErrUnavailable, err)
	}
	return &shardlog.Error{Op: "checkpoint " + op, Stream: k.Stream, Shard: k.Shard, Err: err}
}

// write runs a compare-and-set. A conflict in Badger means that the row was
// changed meanwhile, so it is looked at again.
func (s *Store) write(ctx context.Context, op string, k checkpoint.Key, decide func(checkpoint.StoredRow) ([]byte, error)) (before checkpoint.StoredRow, err error) {
	if err := k.Validate(); err != nil {
		return before, fault(op, k, err)
	}
	key := s.key(k.Group, k.Stream, k.Shard)
	for {
		if err := shardlog.ContextError(ctx); err != nil {
			return before, fault(op, k, err)
		}
		err := s.db.Update(func(tx *badger.Txn) (err error) {
			if before, err = read(tx, key); err != nil {
				return err
			}
			v, err := decide(before)
			if err != nil {
				return err
			}
			return tx.Set(key, v)
		})
		if err == nil {
			return before, nil
		}
		if !errors.Is(err, badger.ErrConflict) {
			return before, fault(op, k, err)
		}
	}
}

// Create implements checkpoint.Store.
func (s *Store) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	l = l.Clone()
	_, err := s.write(ctx, "create", l.Key, func(r checkpoint.StoredRow) ([]byte, error) { return r.Create(&l) })
	if err != nil {
		return checkpoint.Lease{}, err
	}
	s.watchers.Changed(nil, &l)
	return l, nil
}

// Update implements checkpoint.Store.
func (s *Store) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	l = l.Clone()
	given := l.Version
	before, err := s.write(ctx, "update", l.Key, func(r checkpoint.StoredRow) ([]byte, error) {
		l.Version = given // again, if Badger made the transaction run twice
		return r.Update(&l)
	})
	if err != nil {
		return checkpoint.Lease{}, err
	}
	s.watchers.Changed(&before.Lease, &l)
	return l, nil
}

// UpdateTx implements checkpoint.TxStore. If the row is changed before tx is
// committed, the commit fails with badger.ErrConflict.
func (s *Store) UpdateTx(ctx context.Context, tx *badger.Txn, l checkpoint.Lease) (checkpoint.Lease, error) {
	if tx == nil {
		return checkpoint.Lease{}, fault("update", l.Key, &shardlog.InvalidError{Field: "Tx", Value: nil, Limit: "set"})
	}
	l = l.Clone()
	err := l.Validate()
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	var r checkpoint.StoredRow
	key := s.key(l.Group, l.Stream, l.Shard)
	if err == nil {
		r, err = read(tx, key)
	}
	var v []byte
	if err == nil {
		v, err = r.Update(&l)
	}
	if err == nil {
		err = tx.Set(key, v)
	}
	if err != nil {
		return checkpoint.Lease{}, fault("update", l.Key, err)
	}
	return l, nil
}

// Delete implements checkpoint.Store.
func (s *Store) Delete(ctx context.Context, l checkpoint.Lease) error {
	before, err := s.write(ctx, "delete", l.Key, func(r checkpoint.StoredRow) ([]byte, error) { return r.Delete(&l) })
	if err == nil {
		s.watchers.Changed(&before.Lease, nil)
	}
	return err
}

// Get implements checkpoint.Store.
func (s *Store) Get(ctx context.Context, k checkpoint.Key) (checkpoint.Lease, error) {
	err := k.Validate()
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	var r checkpoint.StoredRow
	if err == nil {
		err = s.db.View(func(tx *badger.Txn) (err error) {
			r, err = read(tx, s.key(k.Group, k.Stream, k.Shard))
			return err
		})
	}
	if err == nil && !r.Live {
		err = shardlog.ErrNotFound
	}
	if err != nil {
		return checkpoint.Lease{}, fault("get", k, err)
	}
	return r.Lease, nil
}

// List implements checkpoint.Store.
func (s *Store) List(ctx context.Context, group, stream string) ([]checkpoint.Lease, error) {
	k := checkpoint.Key{Group: group, Stream: stream}
	prefix := s.key(group)
	if stream != "" {
		prefix = s.key(group, stream)
	}
	var out []checkpoint.Lease
	err := s.db.View(func(tx *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = prefix
		it := tx.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := shardlog.ContextError(ctx); err != nil {
				return err
			}
			var r checkpoint.StoredRow
			err := it.Item().Value(func(v []byte) (err error) {
				r, err = checkpoint.DecodeStored(v)
				return err
			})
			if err != nil {
				return err
			}
			if r.Live {
				out = append(out, r.Lease)
			}
		}
		return shardlog.ContextError(ctx)
	})
	if err != nil {
		return nil, fault("list", k, err)
	}
	slices.SortFunc(out, func(a, b checkpoint.Lease) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// Watch implements checkpoint.Watcher. Changes by UpdateTx
// are not reported.
func (s *Store) Watch(ctx context.Context, group, stream string) <-chan struct{} {
	return s.watchers.Watch(ctx, group, stream)
}
