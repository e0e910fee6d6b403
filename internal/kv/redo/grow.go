package redo

import "errors"

// zeroes is how much is written in one call when the file grows, in pages.
const zeroes = 256

// Where the file is mapped, growing takes no writes if its system can allocate blocks, so that
// it is done in larger steps: allocFactor times what there is, at least to allocLeast, in bytes.
const (
	allocFactor = 4
	allocLeast  = 4 << 20
)

// GrowsTo returns how large Grow with that limit makes the ring, in bytes with the pages
// before the frames; 0 if it does not grow.
func (r *Ring) GrowsTo(limit int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.growsTo(limit)
}

func (r *Ring) growsTo(limit int64) int64 {
	if r.begun && r.wrapped() && r.size >= 2*r.lap {
		return 0 // there is room from the next lap on, and frames would get none before
	}
	to := 2 * r.size
	if r.memory != nil {
		to = max(allocFactor*r.size, allocLeast)
	}
	if to = min(to, limit/Page*Page); to <= r.size {
		return 0
	}
	return to
}

// Grow makes the ring larger, at most as large as limit says, and returns by how much it
// grew. It may run while frames are appended. One that fails leaves the ring as it is,
// unless a sync failed: nothing is written any more then.
//
// Frames that are synced one by one need pages with zeros: then Grow writes and syncs them, so
// that frames there cost no more than elsewhere. Where the file is mapped it allocates
// them, which takes no time, and syncs the file's size when there may be frames in them
// already.
func (r *Ring) Grow(limit int64) (int64, error) {
	r.mu.Lock()
	size, to, mapped, err := r.size, r.growsTo(limit), r.memory != nil, r.err
	r.mu.Unlock()
	if err != nil || to == 0 {
		return 0, err
	}
	err = ErrNotMapped
	if mapped {
		err = r.f.Allocate(to)
	}
	switch {
	case err == nil:
		err = r.take(to, false)
	case errors.Is(err, ErrNotMapped):
		to = min(to, 2*size)
		err = r.extend(to)
	}
	if err != nil {
		// The disk may be full, and needs what was written so far.
		if f, ok := r.f.(truncater); ok {
			err = errors.Join(err, f.Truncate(size))
		}
		return 0, err
	}
	return to - size, r.syncSize()
}

// syncSize makes the size of the file durable.
func (r *Ring) syncSize() error {
	r.mu.Lock()
	size, done := r.size, r.sized == r.size
	r.mu.Unlock()
	if done {
		return nil
	}
	if err := r.f.Sync(); err != nil {
		// It may have been to make frames durable, and the next one would not fail for them.
		r.Fail(err)
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sized = max(r.sized, size)
	return nil
}

// truncater is a file that can be cut.
type truncater interface{ Truncate(size int64) error }

// extend writes zeros up to a size, syncs them, and makes the pages part of the ring.
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
		r.Fail(err) // as in syncSize
		return err
	}
	return r.take(to, true)
}

// take makes pages up to a size, which the file has, part of the ring. Durable says that
// the file has it on disk.
func (r *Ring) take(to int64, durable bool) error {
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
	if durable {
		r.sized = to
	}
	r.filling = false
	return nil
}
