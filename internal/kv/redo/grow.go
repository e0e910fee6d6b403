package redo

import "errors"

// zeroes is how much is written in one call when the file grows, in pages.
const zeroes = 256

// Grow makes the ring twice as large, at most as large as limit says, and returns by how
// much it grew. It writes zeros, so that frames there cost no more than elsewhere, and
// syncs them. It may run while frames are appended. One that fails leaves the ring
// as it is, unless the sync failed: nothing is written any more then.
func (r *Ring) Grow(limit int64) (int64, error) {
	r.mu.Lock()
	size, err := r.size, r.err
	r.mu.Unlock()
	to := min(2*size, limit/Page*Page)
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
		// It may have been to make frames durable, and the next one would not fail for them.
		r.Fail(err)
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.size
	r.size = to
	if r.memory != nil {
		if err := r.remap(Words); err != nil {
			r.size = was
			return err
		}
	}
	r.filling = false
	return nil
}
