package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/logstore"
)

// prefixCheckpoint begins the keys of checkpoint rows.
const prefixCheckpoint = 'c'

// Checkpoints returns the checkpoint store of this database: rows are as
// durable as records. It is closed with the database.
func (db *DB) Checkpoints() checkpoint.Store { return checkpoints{db} }

// Checkpoints returns the checkpoint store of the stream's database, where a
// consumer of the stream keeps its progress by default.
func (st *Stream) Checkpoints() checkpoint.Store { return st.db.Checkpoints() }

type checkpoints struct{ db *DB }

var (
	_ checkpoint.Watcher      = checkpoints{}
	_ checkpoint.TxStore[*Tx] = checkpoints{}
)

// Rows are stored as checkpoint.StoredRow. A deleted one is only marked,
// because a value that was deleted can come back (docs/adr/0003), and neither
// the row nor its version may.

// rowKey begins with lengths so that different parts never make the same key,
// and so that the rows of a group, and of a stream in it, have a prefix in
// common.
func rowKey(parts ...string) []byte {
	k := []byte{prefixCheckpoint}
	for _, p := range parts {
		k = binary.BigEndian.AppendUint16(k, uint16(len(p)))
		k = append(k, p...)
	}
	return k
}

func getRow(get func([]byte) ([]byte, error), k []byte) (checkpoint.StoredRow, error) {
	return getRowBy(get, k, func(_, v []byte) (checkpoint.StoredRow, error) { return checkpoint.DecodeStored(v) })
}

func getRowBy(get func([]byte) ([]byte, error), k []byte, decode func(k, v []byte) (checkpoint.StoredRow, error)) (checkpoint.StoredRow, error) {
	v, err := get(k)
	if errors.Is(err, shardlog.ErrNotFound) {
		return checkpoint.StoredRow{}, nil
	}
	if err != nil {
		return checkpoint.StoredRow{}, err
	}
	return decode(k, v)
}

func (c checkpoints) fail(op string, k checkpoint.Key, err error) error {
	if errors.Is(err, shardlog.ErrUnknownOutcome) || errors.Is(err, shardlog.ErrNoSpace) {
		err = fmt.Errorf("%w: %w", checkpoint.ErrUnavailable, err)
	}
	return &shardlog.Error{Op: "checkpoint " + op, Stream: k.Stream, Shard: k.Shard, Err: err}
}

// write runs a compare-and-set: decide gets the stored row and returns what to
// store, for the row that next is then; nil if there is none.
func (c checkpoints) write(ctx context.Context, op string, k checkpoint.Key, next *checkpoint.Lease, decide func(checkpoint.StoredRow) ([]byte, error)) error {
	if err := c.db.enter(ctx, "checkpoint "+op, k.Stream); err != nil {
		return err
	}
	if err := k.Validate(); err != nil {
		return c.fail(op, k, err)
	}
	key := rowKey(k.Group, k.Stream, k.Shard)
	if err := c.db.rows.lock(ctx, key, c.db.quit); err != nil {
		return c.fail(op, k, err)
	}
	err := c.db.log.DoFinally(ctx, func(tx *logstore.Tx) error {
		r, err := getRowBy(tx.Get, key, c.db.written.decode)
		if err != nil {
			return err
		}
		v, err := decide(r)
		if err != nil {
			return err
		}
		tx.Set(key, v)
		if next != nil {
			c.db.written.note(key, v, next)
		}
		return nil
	}, func() { c.db.rows.unlock(key) })
	if err != nil {
		return c.fail(op, k, err)
	}
	return nil
}

// Create implements checkpoint.Store.
func (c checkpoints) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	l = l.Clone()
	err := c.write(ctx, "create", l.Key, &l, func(r checkpoint.StoredRow) ([]byte, error) { return r.Create(&l) })
	if err != nil {
		return checkpoint.Lease{}, err
	}
	c.db.watchers.Changed(nil, &l)
	return l, nil
}

// UpdateTx implements checkpoint.TxStore: the row becomes a part of tx, and tx
// fails to commit if the row's version is another one by then.
func (c checkpoints) UpdateTx(ctx context.Context, tx *Tx, l checkpoint.Lease) (checkpoint.Lease, error) {
	if tx == nil || tx.db != c.db {
		return checkpoint.Lease{}, c.fail("update", l.Key, &shardlog.InvalidError{Field: "Tx", Value: nil, Limit: "a transaction of this database"})
	}
	if err := l.Validate(); err != nil {
		return checkpoint.Lease{}, c.fail("update", l.Key, err)
	}
	cur, err := c.Get(ctx, l.Key)
	if err != nil {
		return checkpoint.Lease{}, err
	}
	if cur.Version != l.Version {
		return checkpoint.Lease{}, c.fail("update", l.Key, fmt.Errorf("%w: version %d given, the row has %d", shardlog.ErrConflict, l.Version, cur.Version))
	}
	tx.Checkpoint(l)
	l = l.Clone()
	l.Version++
	return l, nil
}

// Watch implements checkpoint.Watcher. Changes by transactions are not
// reported.
func (c checkpoints) Watch(ctx context.Context, group, stream string) <-chan struct{} {
	return c.db.watchers.Watch(ctx, group, stream)
}

// Update implements checkpoint.Store.
func (c checkpoints) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	l = l.Clone()
	var before checkpoint.Lease
	err := c.write(ctx, "update", l.Key, &l, func(r checkpoint.StoredRow) ([]byte, error) {
		before = r.Lease
		return r.Update(&l)
	})
	if err != nil {
		return checkpoint.Lease{}, err
	}
	c.db.watchers.Changed(&before, &l)
	return l, nil
}

// Delete implements checkpoint.Store.
func (c checkpoints) Delete(ctx context.Context, l checkpoint.Lease) error {
	err := c.write(ctx, "delete", l.Key, nil, func(r checkpoint.StoredRow) ([]byte, error) { return r.Delete(&l) })
	if err == nil {
		c.db.watchers.Changed(&l, nil)
	}
	return err
}

// Get implements checkpoint.Store.
func (c checkpoints) Get(ctx context.Context, k checkpoint.Key) (checkpoint.Lease, error) {
	if err := c.db.enter(ctx, "checkpoint get", k.Stream); err != nil {
		return checkpoint.Lease{}, err
	}
	if err := k.Validate(); err != nil {
		return checkpoint.Lease{}, c.fail("get", k, err)
	}
	r, err := getRow(c.db.log.Get, rowKey(k.Group, k.Stream, k.Shard))
	if err == nil && !r.Live {
		err = shardlog.ErrNotFound
	}
	if err != nil {
		return checkpoint.Lease{}, c.fail("get", k, err)
	}
	return r.Lease, nil
}

// List implements checkpoint.Store.
func (c checkpoints) List(ctx context.Context, group, stream string) ([]checkpoint.Lease, error) {
	k := checkpoint.Key{Group: group, Stream: stream}
	if err := c.db.enter(ctx, "checkpoint list", stream); err != nil {
		return nil, err
	}
	prefix := rowKey(group)
	if stream != "" {
		prefix = rowKey(group, stream)
	}
	var keys [][]byte
	err := c.db.log.Scan(prefix, func(k []byte) bool {
		keys = append(keys, slices.Clone(k))
		return true
	})
	if err != nil {
		return nil, c.fail("list", k, err)
	}
	var out []checkpoint.Lease
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return nil, c.fail("list", k, shardlog.ContextError(ctx))
		}
		r, err := getRow(c.db.log.Get, key)
		if err != nil {
			return nil, c.fail("list", k, err)
		}
		if r.Live {
			out = append(out, r.Lease)
		}
	}
	slices.SortFunc(out, func(a, b checkpoint.Lease) int { return a.Key.Compare(b.Key) })
	return out, nil
}
