package checkpoint

import (
	"encoding/binary"
	"fmt"

	"github.com/shardlog/shardlog"
)

// StoredRow is what a store of key-value pairs keeps under the key of a row,
// and decides what a write stores instead. A row that was deleted stays as a
// mark with its last version, because a version must never be used twice. The
// zero value is a row that never was.
//
// A store reads a StoredRow, calls Create, Update or Delete, and writes the
// value that it returns, all in one transaction or with a lock held.
type StoredRow struct {
	// Lease is the row, zero unless Live.
	Lease Lease
	// Live is set if there is a row.
	Live bool
	// Version is that of the row, or the last one of a row that was deleted.
	Version uint64
}

// The first byte of a stored value: a deleted row is rowDead and its version,
// big-endian; any other is rowLive and the bytes of Marshal.
const (
	rowDead = 0
	rowLive = 1
)

// DecodeStored reads a stored value. The result shares no memory with it. The error matches shardlog.ErrCorrupt, or
// shardlog.ErrVersion if a newer program has written the row.
func DecodeStored(value []byte) (StoredRow, error) {
	switch {
	case len(value) == 9 && value[0] == rowDead:
		return StoredRow{Version: binary.BigEndian.Uint64(value[1:])}, nil
	case len(value) > 1 && value[0] == rowLive:
		l, err := Unmarshal(value[1:])
		if err != nil {
			return StoredRow{}, err
		}
		return StoredRow{Lease: l, Live: true, Version: l.Version}, nil
	}
	return StoredRow{}, fmt.Errorf("%w: a checkpoint row of %d bytes", shardlog.ErrCorrupt, len(value))
}

// Create sets the Version of l and returns the value to store for it. The error
// matches shardlog.ErrExists if there is a row, and shardlog.ErrInvalid if l is
// not valid.
func (r StoredRow) Create(l *Lease) (value []byte, err error) {
	if r.Live {
		return nil, shardlog.ErrExists
	}
	return r.encode(l)
}

// Update sets the next Version of l and returns the value to store for it. The
// error matches shardlog.ErrNotFound if there is no row, shardlog.ErrConflict if
// it does not have the Version of l, and shardlog.ErrInvalid if l is not valid.
func (r StoredRow) Update(l *Lease) (value []byte, err error) {
	if err := r.match(l.Version); err != nil {
		return nil, err
	}
	return r.encode(l)
}

// Delete returns the value to store for a deleted row. The errors are those of
// Update.
func (r StoredRow) Delete(l *Lease) (value []byte, err error) {
	if err := r.match(l.Version); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64([]byte{rowDead}, r.Version), nil
}

func (r StoredRow) encode(l *Lease) ([]byte, error) {
	l.Version = r.Version + 1
	b, err := Marshal(*l)
	if err != nil {
		return nil, err
	}
	return append([]byte{rowLive}, b...), nil
}

func (r StoredRow) match(version uint64) error {
	switch {
	case !r.Live:
		return shardlog.ErrNotFound
	case r.Version != version:
		return versionConflict(version, r.Version)
	}
	return nil
}

func versionConflict(given, stored uint64) error {
	return fmt.Errorf("%w: version %d given, the row has %d", shardlog.ErrConflict, given, stored)
}
