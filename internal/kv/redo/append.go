package redo

import (
	"errors"
	"unsafe"

	"github.com/shardlog/shardlog/internal/kv"
)

// bufferStep is how the buffer of frames grows, and keptBuffer how large it may stay, in
// bytes.
const (
	bufferStep = 64 << 10
	keptBuffer = 2 << 20
)

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

// place returns where a frame of n bytes goes, with mu held.
func (r *Ring) place(n int64) (at int64, ok bool) {
	switch {
	case r.full:
		return 0, false
	case r.head >= r.state.at:
		if r.head+n <= r.size && !r.turns(n) {
			return r.head, true
		}
		return firstFrame, firstFrame+n <= r.state.at || r.seq == r.state.seq && firstFrame+n <= r.size
	}
	return r.head, r.head+n <= r.state.at
}

// defaultTurnRoom is Options.TurnRoom if it is not set.
const defaultTurnRoom = 4 << 20

// turns reports whether the frame of n bytes that follows the last one goes to the
// beginning of the ring although it fits here: there is much more room than what is in use.
// So the ring takes as many pages in turn as it needs, and not all that it has: these stay
// in the caches of the processor and are written to the disk once in a while. Mu is held.
func (r *Ring) turns(n int64) bool {
	room := r.state.at - firstFrame
	return r.unit == Words && room >= r.opts.TurnRoom+r.kept+n && room >= 2*(r.head-r.state.at)
}

// Fits reports whether there is room for the frame of a batch.
func (r *Ring) Fits(b *kv.Batch) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fits(batchBytes(b))
}

// KeepFor reports whether there is room for the frame of an entry of n bytes. NoteBelow
// leaves that room until Note has used it, or KeepFor is called again.
func (r *Ring) KeepFor(n int) bool {
	size := frameBytes(n, nil, 0)
	if size > MaxFrame {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fits(size) {
		return false
	}
	r.kept = int64(roundUp(size, r.unit))
	return true
}

// fits reports whether there is room for a frame of n bytes, with mu held.
func (r *Ring) fits(n int) bool {
	_, ok := r.place(int64(roundUp(n, r.unit)))
	return ok && n <= MaxFrame && r.err == nil
}

// keeps reports whether a frame of n bytes at an offset leaves the room that is kept, with
// mu held.
func (r *Ring) keeps(at, n int64) bool {
	switch head := at + n; {
	case r.kept == 0:
		return true
	case at < r.state.at:
		return head+r.kept <= r.state.at
	default:
		return head+r.kept <= r.size || firstFrame+r.kept <= r.state.at
	}
}

// buffer returns memory for n bytes, page-aligned.
func (r *Ring) buffer(n int) []byte {
	if n > keptBuffer {
		return pages(roundUp(n, Page) / Page)
	}
	if len(r.buf) < n {
		r.buf = pages(roundUp(n, bufferStep) / Page)
	}
	return r.buf
}

// Append writes a frame with a batch that gets the version, and returns its place when
// it is on disk. After an error it is not known whether it is, and nothing is written
// any more. The unit is Pages, and there is room, see Fits.
func (r *Ring) Append(version uint64, b *kv.Batch) (kv.Position, error) {
	n := roundUp(batchBytes(b), r.unit)
	r.mu.Lock()
	at, ok := r.place(int64(n))
	if r.err == nil && !ok {
		r.fail(errNoRoom)
	}
	err, h := r.err, head{gen: r.state.gen, attempt: r.state.attempt, seq: r.seq, version: version}
	r.mu.Unlock()
	if err != nil {
		return kv.Position{}, err
	}
	frame := r.encode(r.buffer(n), h, b.Ops, b.Entry)
	if _, err = r.f.WriteAt(frame, at); err == nil {
		err = r.f.Sync()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(err)
		return kv.Position{}, err
	}
	p := r.appended(at, len(frame))
	r.durable = r.seq
	return p, nil
}

// appended notes that the next frame was written, with mu held, and returns its place.
func (r *Ring) appended(at int64, n int) kv.Position {
	p := kv.Position{Seq: r.seq, At: at}
	if at < r.head {
		r.lap = r.head
	}
	r.head, r.seq = at+int64(n), r.seq+1
	// A large frame in a ring that was empty may have gone past the place that the
	// state names; the next one would be written over it.
	r.full = at < r.state.at && r.head >= r.state.at
	if !r.filling && r.used() > r.capacity()/2 && r.opts.Filling != nil {
		r.filling = true
		r.opts.Filling()
	}
	return p
}

// Note adds a frame with an entry that a version says counts, and returns its place. It
// is not synced. Not ok means that nothing was done: there is no room, or the unit is
// Pages, or an error has ended the use of the ring.
func (r *Ring) Note(version uint64, entry []byte) (p kv.Position, ok bool) {
	return r.note(version, true, entry)
}

// NoteBelow is Note of an entry in pieces that always counts. It leaves a quarter of the
// ring free, and the room of KeepFor.
func (r *Ring) NoteBelow(pieces ...[]byte) (p kv.Position, ok bool) {
	return r.note(0, false, pieces...)
}

// note is Note, which may take all the room, or NoteBelow.
func (r *Ring) note(version uint64, all bool, entry ...[]byte) (p kv.Position, ok bool) {
	n := 0
	for _, p := range entry {
		n += len(p)
	}
	n = roundUp(frameBytes(n, nil, 0), Words)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || r.unit != Words || n > MaxFrame {
		return p, false
	}
	at, ok := r.place(int64(n))
	if !ok || !all && (r.used()+int64(n) > r.capacity()/4*3 || !r.keeps(at, int64(n))) {
		return p, false
	}
	if all {
		r.kept = 0
	}
	h := head{gen: r.state.gen, attempt: r.state.attempt, seq: r.seq, version: version}
	n, err := r.write(at, n, h, entry...)
	if err != nil {
		r.fail(err)
		return p, false
	}
	return r.appended(at, n), true
}

// write writes the frame of an entry, of at most n bytes, without a sync, with mu held,
// and returns its size.
func (r *Ring) write(at int64, n int, h head, entry ...[]byte) (int, error) {
	if r.memory != nil && r.aead == nil {
		return len(r.encode(r.memory[at:][:n:n], h, nil, entry...)), nil
	}
	// What is to be sealed is never in the file as it is, not even for a moment.
	frame := r.encode(r.buffer(n), h, nil, entry...)
	if r.memory != nil {
		return copy(r.memory[at:], frame), nil
	}
	_, err := r.f.WriteAt(frame, at)
	return len(frame), err
}

// errNoRoom says that Fits was not called.
var errNoRoom = errors.New("the redo log has no room")

// Sync makes all frames durable that were added before.
func (r *Ring) Sync() error {
	r.mu.Lock()
	err, seq, size := r.err, r.seq, r.size
	done := seq == r.durable
	r.mu.Unlock()
	if err != nil || done {
		return err
	}
	err = r.f.Sync()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(err)
		return err
	}
	r.durable, r.sized = max(r.durable, seq), max(r.sized, size)
	return nil
}

// Use returns how many bytes of the ring are taken, and how many can be before some are
// given back.
func (r *Ring) Use() (used, most int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used(), r.capacity()
}

// wrapped reports whether the ring continues at its beginning before the first frame that
// is needed, with mu held.
func (r *Ring) wrapped() bool { return r.full || r.head < r.state.at }

// capacity returns how many bytes can be taken, with mu held. While the ring is wrapped that
// is not what is behind the frames of the lap before.
func (r *Ring) capacity() int64 {
	if r.wrapped() {
		return max(r.lap, r.head) - firstFrame
	}
	return r.size - firstFrame
}

// Before returns how many bytes are taken that are before p, where there is a frame or
// the next one will be.
func (r *Ring) Before(p kv.Position) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.Seq <= r.state.seq:
		return 0
	case p.Seq == r.seq:
		return r.used()
	case p.At > r.state.at:
		return p.At - r.state.at
	}
	return r.lap - firstFrame - (r.state.at - p.At)
}

// used returns how many bytes are taken, with mu held.
func (r *Ring) used() int64 {
	switch {
	case r.full:
		return r.capacity()
	case r.head >= r.state.at:
		return r.head - r.state.at
	}
	return r.lap - firstFrame - (r.state.at - r.head)
}
