package redo

import (
	"errors"
)

// errNoRoom says that Room was not called.
var errNoRoom = errors.New("the redo log has no room")

// zeroes is how much is written in one call when the file grows, in pages.
const zeroes = 256

// Grow makes the ring twice as large, at most Options.Max, and returns by how much
// it grew. It writes zeros, so that frames there cost no more than elsewhere, and
// syncs them. It may run while frames are appended. One that fails leaves the ring
// as it is.
func (r *Ring) Grow() (int64, error) {
	r.mu.Lock()
	size, err := r.size, r.err
	r.mu.Unlock()
	to := min(2*size, r.opts.Max/Page*Page)
	if err != nil || to <= size {
		return 0, err
	}
	if err := r.extend(to); err != nil {
		// The disk may be full, and needs what was written so far.
		if f, ok := r.f.(truncater); ok {
			err = errors.Join(err, f.Truncate(size))
		}
		return 0, err
	}
	return to - size, nil
}

// truncater is a file that can be cut.
type truncater interface{ Truncate(size int64) error }

// extend writes zeros up to a size, and makes the pages part of the ring.
func (r *Ring) extend(to int64) error {
	zero := pages(zeroes)
	r.mu.Lock()
	at := r.size
	r.mu.Unlock()
	for from := at; from < to; from += int64(len(zero)) {
		if _, err := r.f.WriteAt(zero[:min(int64(len(zero)), to-from)], from); err != nil {
			return err
		}
	}
	if err := r.f.Sync(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size = to
	r.wake()
	return nil
}
