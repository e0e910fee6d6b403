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

// fetch is a run of stored blocks, copied from the store and verified.
type fetch struct {
	s      *Shard
	refs   []blockRef
	blocks []block.Block // zero where there was none, or a damaged one
	err    error

	keys  [][]byte
	spans [][2]int // where in arena the blocks are
	arena []byte
}

// run fetches blocks; with reuse, the memory of the last ones is used again.
func (f *fetch) run(s *Shard, refs []blockRef, reuse bool) {
	f.s, f.refs, f.err = s, refs, nil
	f.keys, f.spans, f.blocks = f.keys[:0], f.spans[:0], f.blocks[:0]
	size := 0
	for i := range refs {
		f.keys = append(f.keys, blockKey(s.id, &refs[i]))
		size += int(refs[i].size) + 64 // sizes found at open are estimates
	}
	if f.arena = f.arena[:0]; !reuse || cap(f.arena) < size {
		f.arena = make([]byte, 0, size)
	}
	f.err = s.log.store.GetMany(f.keys, func(_ int, value []byte) bool {
		from := len(f.arena)
		f.arena = append(f.arena, value...)
		f.spans = append(f.spans, [2]int{from, len(f.arena)})
		return true
	})
	if errors.Is(f.err, shardlog.ErrCorrupt) {
		// Which of them it is shows when they are fetched one by one.
		f.err, f.spans = nil, f.spans[:0]
	}
	for i, span := range f.spans {
		var b block.Block
		if span[1] > span[0] {
			e := &refs[i]
			var err error
			b, err = s.log.coder.Decode(f.arena[span[0]:span[1]:span[1]])
			if err != nil || b.First != e.first || b.Count != e.count {
				b = block.Block{}
			}
		}
		f.blocks = append(f.blocks, b)
	}
}

// block returns the i-th block that was fetched.
func (f *fetch) block(i int) (block.Block, error) {
	if i < len(f.blocks) && !f.blocks[i].IsZero() {
		return f.blocks[i], nil
	}
	// Whatever is wrong with it, load says it properly.
	return f.s.load(f.refs[i], nil, false)
}
