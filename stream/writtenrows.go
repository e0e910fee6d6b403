package stream

import (
	"bytes"
	"sync"

	"github.com/shardlog/shardlog/checkpoint"
)

// writtenRows are rows as they were written last, so that the next write of a row
// need not decode it, which costs a fifth of a checkpoint. What is in it
// is a memory of decoding, not the row: it counts only for the same bytes, so
// whether they were committed, and who else writes rows, does not matter.
type writtenRows struct {
	mu   sync.Mutex
	rows map[string]writtenRow // by the row's key; at most maxWrittenRows
}

type writtenRow struct {
	value []byte
	row   checkpoint.StoredRow // shares no memory with what a caller has
}

// The bounds of that memory, 4 MB together. Beyond the number all are forgotten,
// those of consumers that have ended among them.
const (
	maxWrittenRows  = 2048
	maxWrittenBytes = 1 << 10 // of a row that is remembered; a larger one has a prepared state
)

// decode returns the row that a stored value is.
func (w *writtenRows) decode(key, value []byte) (checkpoint.StoredRow, error) {
	w.mu.Lock()
	r, ok := w.rows[string(key)]
	w.mu.Unlock()
	if ok && bytes.Equal(r.value, value) {
		return r.row, nil
	}
	return checkpoint.DecodeStored(value)
}

// note remembers that a value is what a live row is stored as.
func (w *writtenRows) note(key, value []byte, l *checkpoint.Lease) {
	if len(value) > maxWrittenBytes {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.rows[string(key)]; w.rows == nil || !known && len(w.rows) >= maxWrittenRows {
		w.rows = map[string]writtenRow{}
	}
	w.rows[string(key)] = writtenRow{bytes.Clone(value), checkpoint.StoredRow{Lease: l.Clone(), Live: true, Version: l.Version}}
}
