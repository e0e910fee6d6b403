package redo

import (
	"unsafe"

	"github.com/shardlog/shardlog/internal/kv"
)

// bufferStep is how the buffer of Append grows, in bytes.
const bufferStep = 64 << 10

// pages returns n pages of memory that begin at one, as unbuffered writes
// require.
func pages(n int) []byte {
	b := make([]byte, n*Page+Page)
	skip := 0
	if at := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) % Page); at > 0 {
		skip = Page - at
	}
	return b[skip : skip+n*Page : skip+n*Page]
}

// Room returns when there is room for the frame of a batch, or an error. After it
// the next Append, which must be of the same batch, does not wait.
func (r *Ring) Room(b *kv.Batch) error {
	n := int64(frameSize(b))
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil {
		if _, ok := r.place(n); ok {
			return nil
		}
		if r.freed == nil {
			r.freed = make(chan struct{})
		}
		freed := r.freed
		r.mu.Unlock()
		<-freed
		r.mu.Lock()
	}
	return r.err
}

// place returns where a frame of n bytes goes, with mu held.
func (r *Ring) place(n int64) (at int64, ok bool) {
	switch {
	case r.full:
		return 0, false
	case r.head >= r.state.at:
		if r.head+n <= r.size {
			return r.head, true
		}
		return firstFrame, firstFrame+n <= r.state.at || r.seq == r.state.seq && firstFrame+n <= r.size
	}
	return r.head, r.head+n <= r.state.at
}

// Append writes a batch that gets the version, and returns when it is on disk.
// After an error it is not known whether it is, and nothing is written any more.
// Room must have been called for the batch.
func (r *Ring) Append(version uint64, b *kv.Batch) error {
	r.mu.Lock()
	n := int64(frameSize(b))
	at, ok := r.place(n)
	if r.err == nil && !ok {
		r.fail(errNoRoom)
	}
	err, h := r.err, head{gen: r.state.gen, seq: r.seq, version: version}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if int64(len(r.buf)) < n {
		r.buf = pages(int((n + bufferStep - 1) / bufferStep * bufferStep / Page))
	}
	frame := r.encodeFrame(r.buf, h, b)
	if _, err = r.f.WriteAt(frame, at); err == nil {
		err = r.f.Sync()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(err)
		return err
	}
	r.head, r.seq = at+int64(len(frame)), r.seq+1
	// A large frame in a ring that was empty may have gone past the place that the
	// state names; the next one would be written over it.
	r.full = at < r.state.at && r.head >= r.state.at
	return nil
}

// Use returns how many bytes of the ring are taken, and its size.
func (r *Ring) Use() (used, size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	size = r.size - firstFrame
	switch {
	case r.full:
		return size, size
	case r.head >= r.state.at:
		return r.head - r.state.at, size
	}
	return size - (r.state.at - r.head), size
}
