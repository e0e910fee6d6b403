package logstore

import (
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// Tx is the view of the database inside a function run by Do: everything
// committed before, and its own changes.
type Tx struct {
	store kv.Store
	batch *kv.Batch
}

// Get returns a copy of a value, or shardlog.ErrNotFound.
func (t *Tx) Get(key []byte) ([]byte, error) {
	if v, deleted, found := t.batch.Lookup(key); found {
		if deleted {
			return nil, shardlog.ErrNotFound
		}
		return append([]byte(nil), v...), nil
	}
	return t.store.Get(key)
}

// Set stores value under key; both are kept.
func (t *Tx) Set(key, value []byte) { t.batch.Set(key, value) }

// Delete removes key.
func (t *Tx) Delete(key []byte) { t.batch.Delete(key) }
