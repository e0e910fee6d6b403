package logstore

import (
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Bounds of what is fetched in one call: enough that setting up a fetch does not
// matter, and little enough to stay in the processor's cache.
const (
	fetchBlocks = 32
	fetchBytes  = 256 << 10
)

// ownBytes is how much memory blocks that readers keep share: little enough that
// a record that is kept does not hold much more than itself.
const ownBytes = 64 << 10

// fetch is a run of stored blocks, copied from the store. Nothing of the store
// is held once run returns, so a reader may take as long as it likes over what
// it gets; see docs/adr/0017.
type fetch struct {
	s      *Shard
	refs   []blockRef
	values [][]byte // encoded blocks; empty where there was none
	mark   readMark
	err    error

	borrow bool
	keyMem []byte
	keys   [][]byte
	own    []byte // memory of records that belong to the reader
	arena  []byte // the other values
	raw    []byte // where a borrowed block is decompressed
}

// run fetches blocks; with borrow, what is read from them is valid until the
// next run, or the next block.
func (f *fetch) run(s *Shard, refs []blockRef, borrow bool) {
	f.s, f.refs, f.borrow = s, refs, borrow
	f.values, f.keys, f.keyMem, f.arena = f.values[:0], f.keys[:0], f.keyMem[:0], f.arena[:0]
	size := 0
	for i := range refs {
		from := len(f.keyMem)
		f.keyMem = appendBlockKey(f.keyMem, s.id, &refs[i])
		f.keys = append(f.keys, f.keyMem[from:])
		size += int(refs[i].size) + 64 // sizes found at open are estimates
	}
	if borrow && cap(f.arena) < size {
		f.arena = make([]byte, 0, size)
	}
	f.mark = s.beforeRead()
	f.err = s.log.store.GetMany(f.keys, func(_ int, value []byte) bool {
		mem := &f.arena
		if !borrow && !block.Compressed(value) {
			if mem = &f.own; cap(f.own)-len(f.own) < len(value) {
				f.own = make([]byte, 0, max(len(value), min(size, ownBytes)))
			}
		}
		size -= len(value)
		from := len(*mem)
		*mem = append(*mem, value...)
		f.values = append(f.values, (*mem)[from:len(*mem):len(*mem)])
		return true
	})
	s.afterRead(&f.mark)
	if f.err != nil {
		s.verified.forget()
	}
	if errors.Is(f.err, shardlog.ErrCorrupt) {
		// Which of them it is shows when they are fetched one by one.
		f.err, f.values = nil, f.values[:0]
	}
}

// forget makes f ready for another reader: it keeps nothing of what it fetched,
// in the last run or an earlier one with more blocks.
func (f *fetch) forget() {
	clear(f.values[:cap(f.values)])
	*f = fetch{keys: f.keys, keyMem: f.keyMem, values: f.values[:0]}
}

// block returns the i-th block that was fetched. A borrowed one is valid until
// the next call. Trusted says that its checksum was not verified by this call.
func (f *fetch) block(i int) (b block.Block, trusted bool, err error) {
	e := &f.refs[i]
	if i < len(f.values) && len(f.values[i]) > 0 {
		var over *[]byte
		if f.borrow {
			over = &f.raw
		}
		if b, trusted, err := f.s.decode(f.values[i], e, f.mark, over); err == nil {
			return b, trusted, nil
		}
	}
	// Whatever is wrong with it, load says it properly.
	b, trusted, err = f.s.load(*e, nil, false)
	return b, trusted, err
}
