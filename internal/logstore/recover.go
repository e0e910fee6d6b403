package logstore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// skipCounters is how many numbers of a shard are skipped after an unclean end
// that may have lost records: more than can have been written since the last
// sync, and few enough for a billion such ends.
const skipCounters = 1 << 32

// recovery rebuilds the shards' views from the keys, and the journal.
type recovery struct {
	log      *Log
	verify   bool // a power loss may have taken blocks
	horizons map[ID]uint64
	loads    map[ID]*found
	garbage  [][]byte
	dropped  [][]byte         // those of shards that are not to be taken for blocks made from now on
	damaged  bool             // part of the journal cannot be read
	checked  map[string]error // by key: what is wrong with blocks that were read
}

// found is what was found of one shard.
type found struct {
	config Config
	blocks []blockRef
	parts  []foundPart
	fills  []fill // in order
}

// foundPart is a part of the journal that is in no block.
type foundPart struct {
	b  block.Block
	at kv.Position
}

func (ld *found) end() uint64 {
	if n := len(ld.parts); n > 0 {
		return ld.parts[n-1].b.End()
	}
	if n := len(ld.blocks); n > 0 {
		return ld.blocks[n-1].end()
	}
	return 0
}

func (r *recovery) run(rec Recovery) error {
	if err := r.readHorizons(); err != nil {
		return err
	}
	if err := r.readBlocks(); err != nil {
		return err
	}
	if r.verify = rec.Unsynced && !rec.Intact; r.verify {
		if err := r.verifyTails(); err != nil {
			return err
		}
	}
	for _, read := range []func() error{r.readSlots, r.readJournal} {
		if err := read(); err != nil {
			return err
		}
	}
	if err := r.deleteDropped(); err != nil {
		return err
	}
	for id, ld := range r.loads {
		if err := r.storeFills(id, ld); err != nil {
			return err
		}
	}
	if err := r.restartJournal(); err != nil {
		return err
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	for id, ld := range r.loads {
		r.publish(r.log.shards[id], ld, rec)
	}
	slices.SortFunc(r.log.runs, func(a, b *runRef) int { return cmp.Compare(a.at.Seq, b.at.Seq) })
	return nil
}

func (r *recovery) readHorizons() error {
	var ids []ID
	err := r.log.store.Scan([]byte{prefixHorizon}, func(k []byte, _ int64) bool {
		id, ok := parseHorizonKey(k)
		if _, known := r.loads[id]; ok && known {
			ids = append(ids, id)
		} else {
			r.garbage = append(r.garbage, append([]byte(nil), k...))
		}
		return true
	})
	for _, id := range ids {
		v, gerr := r.log.store.Get(horizonKey(id))
		if gerr != nil {
			return gerr
		}
		if len(v) != 8 {
			return fmt.Errorf("%w: trim horizon of shard %v has %d bytes", shardlog.ErrCorrupt, id, len(v))
		}
		r.horizons[id] = binary.BigEndian.Uint64(v)
	}
	return err
}

// readBlocks builds the indexes. A block below the horizon is one that was
// deleted and came back; one that overlaps the block before it, too.
func (r *recovery) readBlocks() error {
	return r.log.store.Scan([]byte{prefixBlock}, func(k []byte, size int64) bool {
		id, e, ok := parseBlockKey(k)
		ld := r.loads[id]
		switch {
		case !ok || ld == nil || e.end() <= r.horizons[id]:
			r.garbage = append(r.garbage, append([]byte(nil), k...))
			return true
		case e.first < ld.end():
			r.dropped = append(r.dropped, append([]byte(nil), k...))
			return true
		}
		e.size = uint32(size)
		ld.blocks = append(ld.blocks, e)
		return true
	})
}

// verifyTails drops blocks at the ends of shards that are damaged.
func (r *recovery) verifyTails() error {
	for id, ld := range r.loads {
		for n := len(ld.blocks); n > 0; n = len(ld.blocks) {
			e := &ld.blocks[n-1]
			damage, err := r.readDamage(id, e)
			if err != nil {
				return err // it may be intact
			}
			if damage == nil {
				break
			}
			r.log.logWarn("dropping a block that was not synced before the end", "shard", id.String(), "first", e.first, "records", e.count, "error", damage)
			r.dropped = append(r.dropped, blockKey(id, e))
			ld.blocks = ld.blocks[:n-1]
		}
	}
	return nil
}

// deleteDropped removes the blocks that were dropped: before anything is written behind
// them, and before a block is made of parts that have the same records, which then has the
// same key.
func (r *recovery) deleteDropped() error {
	for keys := range slices.Chunk(r.dropped, trimChanges) {
		batch := kv.Batch{Small: true}
		for _, k := range keys {
			batch.Delete(k)
		}
		if err := r.log.store.Commit(&batch); err != nil {
			return err
		}
	}
	return nil
}

// readSlots takes up the parts that an earlier version, or a repair, has left in values, if they
// are in no block. The others are what is left in a slot that was not used again.
func (r *recovery) readSlots() error {
	var numbers []uint32
	err := r.log.store.Scan([]byte{prefixJournal}, func(k []byte, _ int64) bool {
		if n, ok := parseSlotKey(k); ok {
			numbers = append(numbers, n)
		}
		return true
	})
	if err != nil {
		return err
	}
	type value struct {
		group uint64
		parts []journalPart
	}
	var values []value
	for _, n := range numbers {
		r.garbage = append(r.garbage, slotKey(n)) // the journal will have the parts
		v, err := r.log.store.Get(slotKey(n))
		if errors.Is(err, shardlog.ErrCorrupt) {
			r.log.logError(fmt.Sprintf("journal value %d cannot be read", n), err)
			r.damaged = true
			continue
		}
		if err != nil {
			return fmt.Errorf("journal value %d: %w", n, err)
		}
		group, parts, err := decodeSlot(v)
		if err != nil {
			// Its records may all be in blocks. If not, the next one of the
			// shard shows that they are missing; and their numbers must not
			// be used again, whatever they were.
			r.log.logError(fmt.Sprintf("journal value %d is damaged", n), err)
			r.damaged = true
		}
		values = append(values, value{group, parts})
	}
	slices.SortFunc(values, func(a, b value) int { return cmp.Compare(a.group, b.group) })
	for _, v := range values {
		for i := range v.parts {
			if err := r.addPart(&v.parts[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// readJournal takes up the parts that are in no block.
func (r *recovery) readJournal() error {
	return r.log.journal.Read(func(p kv.Position, entry []byte) error {
		parts, err := decodeEntry(entry)
		if err != nil {
			r.log.logError(fmt.Sprintf("entry %d of the journal is damaged", p.Seq), err)
			r.damaged = true
		}
		for i := range parts {
			if err := r.addPart(&parts[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *recovery) addPart(p *journalPart) error {
	ld := r.loads[p.id]
	if ld == nil || p.b.End() <= r.horizons[p.id] {
		return nil
	}
	if p.b.First < ld.end() {
		return r.recoverPart(ld, p.id, &p.b)
	}
	ld.parts = append(ld.parts, foundPart{b: p.b})
	return nil
}

// restartJournal begins the journal with the parts that are in no block. If it has no
// room for them, they become blocks.
func (r *recovery) restartJournal() error {
	type outgoing struct {
		bytes []byte
		parts []*foundPart
	}
	var all []*outgoing
	for id, ld := range r.loads {
		ld.mergeParts()
		for i := range ld.parts {
			p := &ld.parts[i]
			if n := len(all); n == 0 || len(all[n-1].bytes)+p.b.Size() > keptEntry {
				all = append(all, new(outgoing))
			}
			o := all[len(all)-1]
			o.bytes, o.parts = appendEntry(o.bytes, id, &p.b), append(o.parts, p)
		}
	}
	entries := make([][]byte, len(all))
	for i, o := range all {
		entries[i] = o.bytes
	}
	places, err := r.log.journal.Restart(entries)
	if errors.Is(err, shardlog.ErrNoSpace) {
		if err := r.storeParts(); err != nil {
			return err
		}
		all = nil
		_, err = r.log.journal.Restart(nil)
	}
	if err != nil {
		return err
	}
	for i, o := range all {
		for _, p := range o.parts {
			p.at = places[i]
		}
	}
	return nil
}

// mergeParts makes one of parts that join, up to the size of a block.
func (ld *found) mergeParts() {
	var merged []foundPart
	for i, n := 0, 0; i < len(ld.parts); i = n {
		group, size := []*block.Block{&ld.parts[i].b}, ld.parts[i].b.Len()
		for n = i + 1; n < len(ld.parts) && size+ld.parts[n].b.Len() <= blockBytes && joins(group[len(group)-1], &ld.parts[n].b); n++ {
			group = append(group, &ld.parts[n].b)
			size += ld.parts[n].b.Len()
		}
		merged = append(merged, foundPart{b: block.Merge(group...)})
	}
	ld.parts = merged
}

// publish publishes a shard's first view, with Log.mu held.
func (r *recovery) publish(s *Shard, ld *found, rec Recovery) {
	v := &view{horizon: max(s.base+1, r.horizons[s.id]), blocks: ld.blocks}
	v.last = v.horizon - 1
	for i := range v.blocks {
		e := &v.blocks[i]
		e.ord = v.total
		v.total += uint64(e.count)
		v.stepped = v.stepped || e.lastMs < v.lastMs
		v.last, v.lastMs = e.end()-1, e.lastMs
		v.bytes += int64(e.size)
		r.log.live.Add(int64(e.size))
	}
	for i := range ld.parts {
		b := &ld.parts[i].b
		v.gather(b, func() memBlock { return s.begin(b, ld.parts[i].at) })
		v.stepped = v.stepped || b.LastMs < v.lastMs
		v.last, v.lastMs = b.End()-1, b.LastMs
	}
	if ld.config.Closed {
		v.closed, s.closed = true, true
		v.last = max(v.last, ld.config.Last)
	}
	s.lastAssigned, s.next, s.lastMs = v.last, max(v.last, ld.config.Floor)+1, v.lastMs
	if (rec.Unclean || rec.Unsynced || r.damaged) && !v.closed {
		s.next += skipCounters
	}
	if ahead := time.Duration(v.lastMs-time.Now().UnixMilli()) * time.Millisecond; ahead > clockTolerance {
		r.log.logWarn("records arrived in the future: the clock was ahead when they were stored, or is behind now", "shard", s.id.String(), "by", ahead)
	}
	s.usage.Bytes.Add(v.bytes)
	s.set(v)
}

// Recovery says in what state a store was left.
type Recovery struct {
	// Unsynced says that the last writer did not close the store and did not
	// sync each commit. After a power loss the newest blocks may then be
	// missing or damaged, and readers may have seen them: damaged blocks at
	// the end of a shard are dropped, and numbers skipped.
	Unsynced bool
	// Intact says that the system has run since the last writer began. So what it
	// wrote is there, synced or not, and the ends of shards need not be looked at,
	// which takes reading a block of each.
	Intact bool
	// Unclean says that the last writer did not close the store. Numbers that it
	// had given out are then skipped even if each commit was synced: a log that
	// was damaged afterwards may have lost the newest records, and readers may
	// have seen them.
	Unclean bool
}
