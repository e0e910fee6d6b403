// Package redo keeps the redo log of a store: a ring of frames in one file. A frame
// has a batch, an entry of the journal (see kv.Journal), or both. It is used in one
// of two ways, which differ in the unit whose multiples frames begin at:
//
// With Pages, each batch is written to the ring and synced there while the store
// applies the same batch without a sync; after a crash of the system the batches that
// the store may have lost are applied again. The file is written in whole pages that
// hold zeros already, so a sync writes data alone and nothing about the file. A frame
// is written only after the one before it is on disk. So what counts after a crash is
// the run of valid frames from the start that the state names; at most the one behind
// it may be torn, and its batch was not acknowledged.
//
// With Words, frames are copied to a mapping of the file, or written without a sync
// where files are not mapped. They are there when the process is killed; after a crash
// of the system those that were synced are.
//
//	page 0     the identity of the ring, written when the file is made
//	page 1, 2  the state, written in turn; the valid one with the higher count holds
//	page 3     empty
//	page 4 ... frames; behind the last one that fits, or earlier, the ring continues
//	           at page 4
//
// Frames are numbered without gaps. Where those begin that are needed, the state says;
// it is advanced (Release) when the store has everything before. Only then are the pages
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

// Units of a ring, in bytes.
const (
	Pages = Page
	Words = 8
)

const (
	// Page is the unit of writing, in bytes: a multiple of the sector of all
	// disks, so that no frame shares one with another.
	Page = 4096
	// MaxFrame bounds a frame, in bytes. What is larger is for the store to sync.
	MaxFrame = kv.MaxEntry + 2<<20
	// MinSize is the smallest ring, in bytes, and what a new file has.
	MinSize = 256 << 10

	firstFrame = 4 * Page
	identMagic = "SLREDO03"
	// earlierMagic is the name of rings that are as these, but for what programs that know
	// no other find in their entries.
	earlierMagic = "SLREDO02"
	stateMagic   = 0x54534c53 // "SLST"
	frameMagic   = 0x46524c53 // "SLRF"
)

// ID names a ring. The store keeps the ID of its own.
type ID [16]byte

// File is the file of a ring. Buffers and offsets are multiples of Page, and
// buffers begin at one.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes what was written durable, also through a mapping.
	Sync() error
	Size() (int64, error)
	// Map maps the first n bytes, which the file has, to be written to as well, until
	// Unmap. They have their place on the disk then, so that a full one is an error here,
	// and no fault when they are written to. The error is ErrNotMapped where files are
	// not mapped.
	Map(n int64) ([]byte, error)
	Unmap(b []byte) error
	// Allocate makes the file longer, up to a size, by zeros that have their place on the
	// disk. It need not be durable. The error is ErrNotMapped where that cannot be done
	// without writing them.
	Allocate(to int64) error
	Close() error
}

// ErrNotMapped says that a file cannot be mapped.
var ErrNotMapped = errors.New("the file cannot be mapped")

// Options say how to open a ring.
type Options struct {
	Path string
	ID   ID
	// Key returns the key that the frames of a generation are sealed with, nil for none;
	// see Begin.
	Key func(generation uint32) []byte
	// Open opens or creates the file; nil stands for OpenFile.
	Open func(path string) (File, error)
	// Filling is called when more than half of the ring is taken, once until pages are
	// given back or added. It must not call the ring, nor block. Nil for none.
	Filling func()
	// TurnRoom is for how much room at its beginning the ring continues there before its end,
	// in bytes; 0 for 4 MiB.
	TurnRoom int64
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
	// Last is the number of the last frame when the store was closed in order.
	Last uint64
}

// state is what a page of state holds.
type state struct {
	Mark
	count uint64
	gen   uint32 // of the frames that count
	unit  int64
	seq   uint64 // of the first one
	at    int64  // where it is
	size  int64  // that the file has at least
	// attempt is a random number, another one for each attempt to begin a generation: what
	// one that was cut off has left does not count.
	attempt uint32
	sealed  bool // the frames are
}

// Ring is an open redo log. Append is for one goroutine, and Begin for one while nothing
// else is called. The other methods are safe for concurrent use.
type Ring struct {
	opts  Options
	f     File
	aead  cipher.AEAD // nil for none
	anyID bool        // the ID is that of the file
	// earlier says that the file has the name of earlier rings.
	earlier bool
	// buf is Append's, page-aligned.
	buf []byte

	writing sync.Mutex // held while the state is written; before mu

	mu      sync.Mutex
	walked  bool   // head and seq are behind the last frame that counts
	unit    int64  // that of the state
	state   state  // what the file says; it changes with writing held, too
	memory  []byte // the file, where it is mapped
	filling bool   // Options.Filling was called
	size    int64  // of the file
	sized   int64  // what of it is on disk for certain
	head    int64  // where the next frame goes, unless it does not fit there
	seq     uint64 // of the next frame
	lap     int64  // while head is before state.at: where the frames end, at most, that one at firstFrame follows
	kept    int64  // bytes of the room that KeepFor has found
	durable uint64 // frames of the generation with lower numbers are on disk
	settled bool   // the state is on disk as it is here
	full    bool   // the ring has no room before lap, which head == state.at alone does not say
	begun   bool   // Begin was called: it is in use
	err     error  // why nothing is written any more
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
		err = r.writeIdent()
	}
	if err == nil {
		err = r.writeState(state{gen: 1, unit: Pages, seq: 1, at: firstFrame, size: MinSize, sealed: o.Key != nil && o.Key(1) != nil}, true)
	}
	if err = errors.Join(err, r.f.Close()); err != nil {
		return errors.Join(err, os.Remove(o.Path))
	}
	return nil
}

// writeIdent writes the first page.
func (r *Ring) writeIdent() error {
	ident := pages(1)
	copy(ident[8:], identMagic)
	copy(ident[16:], r.opts.ID[:])
	binary.LittleEndian.PutUint64(ident, xxhash.Sum64(ident[8:]))
	_, err := r.f.WriteAt(ident, 0)
	return err
}

// Open opens a ring to read what is in it. Begin has to be called before Append.
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
	if o.TurnRoom == 0 {
		o.TurnRoom = defaultTurnRoom
	}
	r := &Ring{opts: o}
	var err error
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
	v := string(ident[8:16])
	r.earlier = v == earlierMagic
	known := r.earlier || v == identMagic
	if !known && v[:6] == identMagic[:6] {
		return fmt.Errorf("%w: %s says %q, and this program knows %q and %q", shardlog.ErrVersion, r.opts.Path, v, earlierMagic, identMagic)
	}
	if !known || binary.LittleEndian.Uint64(ident) != xxhash.Sum64(ident[8:]) {
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
	if r.size < r.state.size {
		return r.opts.damage(r.size, "it is cut short: it had %d bytes", r.state.size)
	}
	r.head, r.seq, r.unit, r.lap = r.state.at, r.state.seq, r.state.unit, r.size
	r.sized = r.state.size
	if r.opts.Key == nil || !r.state.sealed {
		return nil
	}
	key := r.opts.Key(r.state.gen)
	if key == nil {
		return r.opts.damage(Page, "the database has no key for it")
	}
	var err error
	r.aead, err = sealer(key)
	return err
}

// Syncs reports whether the frames that the ring has were synced one by one.
func (r *Ring) Syncs() bool { return r.unit == Pages }

// Generation returns how often the ring was begun again.
func (r *Ring) Generation() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.gen
}

// newestState returns the state that holds, from the first pages of a file of a size.
func newestState(head []byte, size int64) (newest state, ok bool) {
	for i := range 2 {
		s, valid := decodeState(head[(1+i)*Page:][:Page])
		if valid && s.at >= firstFrame && s.at <= size && s.at%s.unit == 0 && (!ok || s.count > newest.count) {
			newest, ok = s, true
		}
	}
	return newest, ok
}

// Examine verifies the head of the ring in a file, without its ID and key, and returns what
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
	return r.state.Mark, nil
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
		Lost:   "records that are in no block yet, and with SyncAlways writes that were acknowledged shortly before the system crashed, if it did",
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
	return r.advance(true, func(s *state) { s.Limit = version }, nil)
}

// NoteMark stores, durably, what is known of the store.
func (r *Ring) NoteMark(m Mark) error {
	return r.advance(true, func(s *state) { s.Mark = m }, nil)
}

// End returns the position of the next frame.
func (r *Ring) End() kv.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return kv.Position{Seq: r.seq, At: r.head}
}

// Start returns the position of the first frame that is not given back, or of the next one.
func (r *Ring) Start() kv.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return kv.Position{Seq: r.state.seq, At: r.state.at}
}

// Release gives back what is before p. The store has it, as m says: on disk, if sync is
// set, which makes Release block for a sync. Without it a crash of the system may bring
// back the state before.
func (r *Ring) Release(p kv.Position, m Mark, sync bool) error {
	if r.says(p, m) {
		return nil
	}
	if r.beyond(p) {
		// A state that reaches the disk before the size of the file does would name a place
		// that there is not, whether its own sync comes to an end or not.
		if err := r.syncSize(); err != nil {
			return err
		}
	}
	var none bool // there was nothing to give back
	return r.advance(sync, func(s *state) {
		if none = p.Seq <= s.seq; !none {
			s.seq, s.at = p.Seq, p.At
		}
		s.Mark = m
	}, func() {
		r.full = r.full && none
		r.filling = r.filling && none
	})
}

// beyond reports whether p is where the file may not reach after a crash of the system.
func (r *Ring) beyond(p kv.Position) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.At > r.sized
}

// says reports whether the file says already, durably, that what is before p is given back,
// and m.
func (r *Ring) says(p kv.Position, m Mark) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err == nil && r.settled && p.Seq <= r.state.seq && m == r.state.Mark && r.sized == r.state.size
}

// advance changes the state, first in the file and then, with mu held, in memory.
// A state of which it is not known whether it was written ends the use of the
// ring.
func (r *Ring) advance(sync bool, change func(*state), then func()) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	s, err, seq := r.state, r.err, r.seq
	size := r.size
	s.size = r.sized // it may have grown
	r.mu.Unlock()
	if err != nil {
		return err
	}
	change(&s)
	s.count++
	err = r.writeState(s, sync)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(err)
		return err
	}
	r.state, r.settled = s, sync
	if sync {
		r.durable, r.sized = max(r.durable, seq), max(r.sized, size)
	}
	if then != nil {
		then()
	}
	return nil
}

func (r *Ring) writeState(s state, sync bool) error {
	p := pages(1)
	encodeState(p, s)
	if _, err := r.f.WriteAt(p, Page+int64(s.count%2)*Page); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	return r.f.Sync()
}

// Fail ends the use of the ring: all that is called from then on gets an error.
func (r *Ring) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail(err)
}

// Err returns why the ring is no longer in use, nil if it is.
func (r *Ring) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// fail ends the use of the ring, with mu held.
func (r *Ring) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Close closes the file. Calls from then on fail with shardlog.ErrClosed.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(r.err, shardlog.ErrClosed) {
		return nil
	}
	r.err = shardlog.ErrClosed
	var err error
	if r.memory != nil {
		err = r.f.Unmap(r.memory)
		r.memory = nil
	}
	return errors.Join(err, r.f.Close())
}

func encodeState(p []byte, s state) {
	le := binary.LittleEndian
	le.PutUint32(p[8:], stateMagic)
	le.PutUint32(p[12:], s.gen)
	for i, v := range [...]uint64{s.count, s.seq, uint64(s.at), s.Base, s.Limit, uint64(s.File), uint64(s.Offset), flag(s.Clean), s.Last, uint64(s.unit), uint64(s.attempt), flag(s.sealed), uint64(s.size)} {
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
	s = state{gen: le.Uint32(p[12:]), count: v(0), seq: v(1), at: int64(v(2)), unit: int64(v(9)), attempt: uint32(v(10)), sealed: v(11) != 0, size: int64(v(12)),
		Mark: Mark{Base: v(3), Limit: v(4), File: uint32(v(5)), Offset: int64(v(6)), Clean: v(7) != 0, Last: v(8)}}
	return s, s.unit == Pages || s.unit == Words
}
