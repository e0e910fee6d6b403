package stream

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/logstore"
)

// txRows are the checkpoint rows of a transaction, locked. They are stored with its
// records.
type txRows struct {
	db     *DB
	keys   [][]byte // in order; those locked
	values map[string][]byte
	leases []checkpoint.Lease
	inline int
}

// lockRows locks the rows of the transaction in the order of their keys.
func (tx *Tx) lockRows(ctx context.Context) (*txRows, error) {
	rows := &txRows{db: tx.db, values: map[string][]byte{}}
	var keys [][]byte
	for i := range tx.rows {
		k := tx.rows[i].Key
		keys = append(keys, rowKey(k.Group, k.Stream, k.Shard))
	}
	slices.SortFunc(keys, bytes.Compare)
	for _, k := range keys {
		if err := tx.db.rows.lock(ctx, k, tx.db.quit); err != nil {
			rows.unlock()
			return nil, err
		}
		rows.keys = append(rows.keys, k)
	}
	return rows, nil
}

func (rows *txRows) unlock() {
	for _, k := range rows.keys {
		rows.db.rows.unlock(k)
	}
	rows.keys = nil
}

// decide compares the rows with what is stored.
func (rows *txRows) decide(want []checkpoint.Lease) error {
	for i := range want {
		l := want[i].Clone()
		k := rowKey(l.Group, l.Stream, l.Shard)
		r, err := getRow(rows.db.log.Get, k)
		var v []byte
		switch {
		case err != nil:
		case l.Version == 0:
			v, err = r.Create(&l)
		default:
			v, err = r.Update(&l)
		}
		if err != nil {
			return checkpoints{rows.db}.fail("in transaction", l.Key, err)
		}
		rows.values[string(k)] = v
		rows.leases = append(rows.leases, l)
		if rows.inline += len(k); len(v) <= kv.InlineValue {
			rows.inline += len(v)
		}
	}
	if rows.inline > maxTxInline {
		return &shardlog.InvalidError{Field: "Tx", Value: fmt.Sprintf("with %d bytes of checkpoints", rows.inline), Limit: fmt.Sprintf("at most %d bytes of rows up to %d bytes", maxTxInline, kv.InlineValue)}
	}
	return nil
}

// Prepare implements logstore.Participant.
func (rows *txRows) Prepare(_ []any, tx *logstore.Tx) {
	for _, k := range rows.keys {
		tx.Set(k, rows.values[string(k)])
	}
}

// Finish implements logstore.Participant.
func (rows *txRows) Finish([]any, error) { rows.unlock() }
