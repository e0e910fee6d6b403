// Package redo keeps the redo log of a store: a ring in one file to which each
// batch is written, and synced, while the store applies the same batch without
// a sync. After a crash of the system the batches that the store may have lost
// are applied again.
//
// The file is written in whole pages that hold zeros already, so a sync writes
// data alone and nothing about the file. A batch is a frame of one or more pages.
// Frames are numbered without gaps, and a frame is written only after the one
// before it is on disk. So what counts after a crash is the run of valid frames
// from the start that the header names; at most the one behind it may be torn,
// and its batch was not acknowledged.
//
//	page 0     the identity of the ring, written when the file is made
//	page 1, 2  the state, written in turn; the valid one with the higher count holds
//	page 3     empty
//	page 4 ... frames; behind the last one that fits, the ring continues at page 4
//
// Where frames begin that are needed, the state says; it is advanced (Release)
// when the store has made everything before durable. Only then are the pages
// used again.
package redo

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

const (
	// Page is the unit of writing, in bytes: a multiple of the sector of all
	// disks, so that no frame shares one with another.
	Page = 4096
	// MaxFrame bounds a frame, in bytes. What is larger is for the store to sync.
	MaxFrame = 2 << 20
	// MinSize is the smallest ring, in bytes, and what a new file has.
	MinSize = 256 << 10

	firstFrame = 4 * Page
	identMagic = "SLREDO01"
	stateMagic = 0x54534c53 // "SLST"
	frameMagic = 0x46524c53 // "SLRF"
)

// ID names a ring. The store keeps the ID of its own.
type ID [16]byte

// File is the file of a ring. Buffers and offsets are multiples of Page, and
// buffers begin at one.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes what was written durable.
	Sync() error
	Size() (int64, error)
	Close() error
}

// Options say how to open a ring.
type Options struct {
	Path string
	ID   ID
	// Key encrypts the batches, 32 bytes that no other opening of a ring has
	// had: positions in the ring are the nonces. Nil for none.
	Key []byte
	// Max is how large the file may become, in bytes.
	Max int64
	// Open opens or creates the file; nil stands for OpenFile.
	Open func(path string) (File, error)
}

// Mark is what a state of the ring says of the store.
type Mark struct {
	// Base is the version up to which the store has everything on disk.
	Base uint64
	// Limit is the highest version that the store had when it began to recover,
	// 0 when it does not: versions above it are of a recovery that was cut off.
	Limit uint64
	// File and Offset are up to where the values of the store are on disk.
	File   uint32
	Offset int64
	// Clean says that the store was closed in order, with everything on disk.
	Clean bool
}

// state is what a page of state holds.
type state struct {
	Mark
	count uint64
	gen   uint32 // of the frames that count
	seq   uint64 // of the first one
	at    int64  // where it is
}

// Ring is an open redo log. Append is for one goroutine, and so is Position,
// between calls of Append. The other methods are safe for concurrent use.
type Ring struct {
	opts  Options
	f     File
	aead  cipher.AEAD // nil for none
	anyID bool        // the ID is that of the file
	// buf is Append's, page-aligned.
	buf []byte

	writing sync.Mutex // held while the state is written; before mu

	mu    sync.Mutex
	state state         // what the file says; it changes with writing held, too
	size  int64         // of the file
	head  int64         // where the next frame goes, unless it does not fit there
	seq   uint64        // of the next frame
	full  bool          // the ring has no free page, which head == state.at alone does not say
	freed chan struct{} // closed when pages become free, or none ever will; nil if nobody waits
	err   error         // why nothing is written any more
}

// Create makes a ring with nothing in it, in place of what is there, and syncs
// it. The directory is for the caller to sync. The file gets its name when it is
// complete.
func Create(o Options) (*Ring, error) {
	whole := o.Path
	o.Path += NewSuffix
	if err := os.Remove(o.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := write(o); err != nil {
		return nil, err
	}
	if err := os.Rename(o.Path, whole); err != nil {
		return nil, errors.Join(err, os.Remove(o.Path))
	}
	o.Path = whole
	return Open(o)
}

// NewSuffix is added to the name of a file while it is made.
const NewSuffix = ".new"

// write makes the file of an empty ring.
func write(o Options) error {
	r, err := attach(o)
	if err != nil {
		return err
	}
	err = r.extend(MinSize)
	if err == nil {
		ident := pages(1)
		copy(ident[8:], identMagic)
		copy(ident[16:], o.ID[:])
		binary.LittleEndian.PutUint64(ident, xxhash.Sum64(ident[8:]))
		_, err = r.f.WriteAt(ident, 0)
	}
	if err == nil {
		err = r.writeState(state{gen: 1, seq: 1, at: firstFrame})
	}
	if err = errors.Join(err, r.f.Close()); err != nil {
		return errors.Join(err, os.Remove(o.Path))
	}
	return nil
}

// Open opens a ring to read what is in it. Reset has to be called before Append.
// It returns a *shardlog.DamageError if the file is missing, damaged or that of
// another ring.
func Open(o Options) (*Ring, error) {
	if _, err := os.Stat(o.Path); errors.Is(err, os.ErrNotExist) {
		return nil, o.damage(-1, "it is missing: what was written shortly before a crash of the system may be in it alone")
	}
	r, err := attach(o)
	if err != nil {
		return nil, err
	}
	if err := r.load(); err != nil {
		return nil, errors.Join(err, r.f.Close())
	}
	return r, nil
}

func attach(o Options) (*Ring, error) {
	if o.Open == nil {
		o.Open = OpenFile
	}
	r := &Ring{opts: o}
	var err error
	if r.aead, err = sealer(o.Key); err != nil {
		return nil, err
	}
	if r.f, err = o.Open(o.Path); err != nil {
		return nil, err
	}
	if r.size, err = r.f.Size(); err != nil {
		return nil, errors.Join(err, r.f.Close())
	}
	return r, nil
}

// sealer returns what seals frames with a key, nil if there is none.
func sealer(key []byte) (cipher.AEAD, error) {
	if key == nil {
		return nil, nil
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// load reads the head of the file.
func (r *Ring) load() error {
	if r.size < MinSize {
		return r.opts.damage(r.size, "it is cut short")
	}
	r.size -= r.size % Page // of a file that was growing
	head := pages(firstFrame / Page)
	if err := r.read(head, 0); err != nil {
		return err
	}
	ident := head[:Page]
	if v := string(ident[8:16]); v != identMagic && v[:6] == identMagic[:6] {
		return fmt.Errorf("%w: %s says %q, and this program knows %q", shardlog.ErrVersion, r.opts.Path, v, identMagic)
	}
	if string(ident[8:16]) != identMagic || binary.LittleEndian.Uint64(ident) != xxhash.Sum64(ident[8:]) {
		return r.opts.damage(0, "its first page is damaged")
	}
	switch id := ID(ident[16:32]); {
	case r.anyID:
		r.opts.ID = id
	case id != r.opts.ID:
		return r.opts.damage(16, "it belongs to another database")
	}
	var ok bool
	if r.state, ok = newestState(head, r.size); !ok {
		return r.opts.damage(Page, "both pages with its state are damaged")
	}
	r.head, r.seq = r.state.at, r.state.seq
	return nil
}

// newestState returns the state that holds, from the first pages of a file of a size.
func newestState(head []byte, size int64) (newest state, ok bool) {
	for i := range 2 {
		s, valid := decodeState(head[(1+i)*Page:][:Page])
		if valid && s.at >= firstFrame && s.at <= size && s.at%Page == 0 && (!ok || s.count > newest.count) {
			newest, ok = s, true
		}
	}
	return newest, ok
}

// Examine verifies the ring in a file, without its ID and key, and returns what
// its state says of the store. A file that does not exist has an empty one.
func Examine(path string) (Mark, error) {
	f, err := OpenReadOnly(path)
	if errors.Is(err, os.ErrNotExist) {
		return Mark{}, nil
	}
	if err != nil {
		return Mark{}, err
	}
	defer f.Close()
	r := &Ring{opts: Options{Path: path}, f: f, anyID: true}
	if r.size, err = f.Size(); err != nil {
		return Mark{}, err
	}
	if err := r.load(); err != nil {
		return Mark{}, err
	}
	return r.state.Mark, r.walk(func(head, int64, []byte) error { return nil })
}

// read fills b, and reports a part that cannot be read as damage.
func (r *Ring) read(b []byte, at int64) error {
	if _, err := r.f.ReadAt(b, at); err != nil {
		return r.opts.damage(at, "it cannot be read there: %v", err)
	}
	return nil
}

func (o *Options) damage(offset int64, format string, args ...any) error {
	return &shardlog.DamageError{Path: o.Path, Offset: offset, Reason: fmt.Sprintf(format, args...),
		Lost:   "writes that were acknowledged shortly before the system crashed, if it did",
		Remedy: `restore the database from a backup, or keep what is readable with "shardlog check -repair"`}
}

// Mark returns what the state says of the store.
func (r *Ring) Mark() Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Mark
}

// NoteLimit stores, durably, that a recovery begins; see Mark.Limit.
func (r *Ring) NoteLimit(version uint64) error {
	return r.advance(func(s *state) { s.Limit = version }, nil)
}

// Reset empties the ring, durably: the store has everything on disk, as m says.
// From then on batches are encrypted with the key, see Options.Key. No frame is
// being appended.
func (r *Ring) Reset(m Mark, key []byte) error {
	aead, err := sealer(key)
	if err != nil {
		return err
	}
	m.Limit = 0
	return r.advance(func(s *state) {
		s.Mark, s.gen, s.seq, s.at = m, s.gen+1, 1, firstFrame
	}, func() {
		r.head, r.seq, r.full, r.aead = firstFrame, 1, false, aead
	})
}

// Position is a place between two frames.
type Position struct {
	seq uint64
	at  int64
}

// Position returns where the next frame goes.
func (r *Ring) Position() Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Position{r.seq, r.head}
}

// Release gives back the pages before p, once the store has everything that was
// appended before p on disk, as m says. It blocks for a sync.
func (r *Ring) Release(p Position, m Mark) error {
	var none bool // there was nothing to give back
	return r.advance(func(s *state) {
		none = p.seq == s.seq
		s.Mark, s.seq, s.at = m, p.seq, p.at
	}, func() {
		if r.full = r.full && none; !r.full {
			r.wake()
		}
	})
}

// advance changes the state, first in the file and then, with mu held, in memory.
// A state of which it is not known whether it was written ends the use of the
// ring.
func (r *Ring) advance(change func(*state), then func()) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	s, err := r.state, r.err
	r.mu.Unlock()
	if err != nil {
		return err
	}
	change(&s)
	s.count++
	err = r.writeState(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(err)
		return err
	}
	r.state = s
	if then != nil {
		then()
	}
	return nil
}

func (r *Ring) writeState(s state) error {
	p := pages(1)
	encodeState(p, s)
	if _, err := r.f.WriteAt(p, Page+int64(s.count%2)*Page); err != nil {
		return err
	}
	return r.f.Sync()
}

// Fail ends the use of the ring: what waits for room, and all that is called from
// then on, gets an error.
func (r *Ring) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail(err)
}

// fail ends the use of the ring, with mu held.
func (r *Ring) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.wake()
}

// wake wakes those who wait for free pages, with mu held.
func (r *Ring) wake() {
	if r.freed != nil {
		close(r.freed)
		r.freed = nil
	}
}

// Close closes the file. No other method may be running but Room, which returns
// shardlog.ErrClosed.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail(shardlog.ErrClosed)
	return r.f.Close()
}

func encodeState(p []byte, s state) {
	le := binary.LittleEndian
	le.PutUint32(p[8:], stateMagic)
	le.PutUint32(p[12:], s.gen)
	for i, v := range [...]uint64{s.count, s.seq, uint64(s.at), s.Base, s.Limit, uint64(s.File), uint64(s.Offset), flag(s.Clean)} {
		le.PutUint64(p[16+8*i:], v)
	}
	le.PutUint64(p, xxhash.Sum64(p[8:Page]))
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func decodeState(p []byte) (s state, ok bool) {
	le := binary.LittleEndian
	if le.Uint32(p[8:]) != stateMagic || le.Uint64(p) != xxhash.Sum64(p[8:Page]) {
		return s, false
	}
	v := func(i int) uint64 { return le.Uint64(p[16+8*i:]) }
	return state{gen: le.Uint32(p[12:]), count: v(0), seq: v(1), at: int64(v(2)),
		Mark: Mark{Base: v(3), Limit: v(4), File: uint32(v(5)), Offset: int64(v(6)), Clean: v(7) != 0}}, true
}

// Fits reports whether a frame can hold a batch.
func Fits(b *kv.Batch) bool { return frameSize(b) <= MaxFrame }
