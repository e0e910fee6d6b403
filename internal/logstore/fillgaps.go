package logstore

import (
	"errors"
	"slices"
	"sort"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// Where commits are not synced, a power loss may take a block and leave the one
// that follows it. What was durable before as a part of the journal still is, in an
// entry that is not given back before a sync. So a part that begins before the end
// of the last block is left over only if a block has its records.

// fill is parts of the journal that were the records of a block that is lost.
type fill struct {
	block block.Block
	lost  [][]byte // keys of damaged blocks that had these records
}

// recoverPart takes up a part that begins before the end of the last block, if
// its records are in no block. After a power loss, blocks that have them are read: a
// damaged one counts for nothing.
func (r *recovery) recoverPart(ld *found, id ID, b *block.Block) error {
	if n := len(ld.fills); b.First <= ld.config.Base || b.First < r.horizons[id] || n > 0 && b.First < ld.fills[n-1].block.End() {
		return nil
	}
	var lost [][]byte
	i := sort.Search(len(ld.blocks), func(i int) bool { return ld.blocks[i].end() > b.First })
	j := i
	for ; j < len(ld.blocks) && ld.blocks[j].first < b.End(); j++ {
		if !r.verify {
			return nil
		}
		key := blockKey(id, &ld.blocks[j])
		damage, known := r.checked[string(key)]
		if !known {
			var err error
			if damage, err = r.readDamage(id, &ld.blocks[j]); err != nil {
				return err
			}
			r.checked[string(key)] = damage
		}
		if damage == nil {
			return nil
		}
		lost = append(lost, key)
	}
	if i == len(ld.blocks) {
		return nil // it is with the parts that come after all blocks
	}
	ld.blocks = slices.Delete(ld.blocks, i, j)
	if n := len(ld.fills); n > 0 && len(lost) == 0 {
		if last := &ld.fills[n-1]; joins(&last.block, b) && last.block.Len()+b.Len() <= blockBytes {
			last.block = block.Merge(&last.block, b)
			return nil
		}
	}
	ld.fills = append(ld.fills, fill{*b, lost})
	return nil
}

// readDamage reads a block, and returns what is wrong with it; the other error is
// one that says nothing of the block.
func (r *recovery) readDamage(id ID, e *blockRef) (damage, other error) {
	value, err := r.log.store.Get(blockKey(id, e))
	switch {
	case err == nil:
		_, err = r.log.coder.Decode(value)
		return err, nil
	case errors.Is(err, shardlog.ErrCorrupt) || errors.Is(err, shardlog.ErrNotFound):
		return err, nil
	}
	return nil, err
}

// storeFills makes blocks of the parts that recoverPart has taken up.
func (r *recovery) storeFills(id ID, ld *found) error {
	for i := range ld.fills {
		f := &ld.fills[i]
		e, err := r.storeBlock(id, &f.block, f.lost)
		if err != nil {
			return err
		}
		at := sort.Search(len(ld.blocks), func(i int) bool { return ld.blocks[i].first > e.first })
		ld.blocks = slices.Insert(ld.blocks, at, e)
		r.log.logWarn("a block that was not synced before the end is created from the journal", "shard", id.String(), "first", e.first, "records", e.count)
	}
	return nil
}

// storeParts makes blocks of the parts that are only in the journal.
func (r *recovery) storeParts() error {
	for id, ld := range r.loads {
		for i := range ld.parts {
			e, err := r.storeBlock(id, &ld.parts[i].b, nil)
			if err != nil {
				return err
			}
			ld.blocks = append(ld.blocks, e)
		}
		ld.parts = nil
	}
	return nil
}

// storeBlock stores a block in the place of others, of which it gets the keys.
func (r *recovery) storeBlock(id ID, b *block.Block, lost [][]byte) (blockRef, error) {
	e := blockRef{first: b.First, count: b.Count, firstMs: b.FirstMs, lastMs: b.LastMs}
	value := b.Encoded(block.None)
	e.size = uint32(len(value))
	batch := kv.Batch{}
	for _, k := range lost {
		batch.Delete(k)
	}
	batch.Set(blockKey(id, &e), value)
	batch.Small = true // it has to be stored, also on a full disk
	return e, r.log.store.Commit(&batch)
}
