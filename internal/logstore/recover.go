package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// skipCounters is how many numbers of a shard are skipped after an unclean end
// that may have lost records: more than can have been written since the last
// sync, and few enough for a billion such ends.
const skipCounters = 1 << 32

// recovery rebuilds the shards' views from the keys, and the journal.
type recovery struct {
	log      *Log
	horizons map[ID]uint64
	loads    map[ID]*found
	garbage  [][]byte
	dropped  [][]byte         // blocks that were not synced before a power loss
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
	b    block.Block
	slot uint32
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
	if rec.Unsynced && !rec.Intact {
		if err := r.verifyTails(); err != nil {
			return err
		}
	}
	if err := r.readJournal(rec); err != nil {
		return err
	}
	for id, ld := range r.loads {
		if err := r.storeFills(id, ld); err != nil {
			return err
		}
		r.publish(r.log.shards[id], ld, rec)
	}
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
		if !ok || ld == nil || e.end() <= r.horizons[id] || e.first < ld.end() {
			r.garbage = append(r.garbage, append([]byte(nil), k...))
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

// readJournal takes up the parts that are in no block. The others are what
// is left in a slot that was not used again.
func (r *recovery) readJournal(rec Recovery) error {
	j := &r.log.slots
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
		slot  *slot
		parts []journalPart
	}
	var values []value
	for _, n := range numbers {
		j.next = max(j.next, n+1)
		v, err := r.log.store.Get(slotKey(n))
		if errors.Is(err, shardlog.ErrCorrupt) {
			r.log.logError(fmt.Sprintf("journal value %d cannot be read", n), err)
			r.damaged = true
			continue
		}
		if err != nil {
			return fmt.Errorf("journal slot %d: %w", n, err)
		}
		group, parts, err := decodeJournal(v)
		if err != nil {
			// Its records may all be in blocks. If not, the next one of the
			// shard shows that they are missing; and their numbers must not
			// be used again, whatever they were.
			r.log.logError(fmt.Sprintf("journal value %d is damaged", n), err)
			r.damaged = true
		}
		j.group = max(j.group, group)
		values = append(values, value{group, &slot{number: n, bytes: int64(len(v)), group: group}, parts})
	}
	sort.Slice(values, func(i, j int) bool { return values[i].group < values[j].group })
	used := map[uint32]bool{}
	for _, v := range values {
		for i := range v.parts {
			if err := r.addPart(v.slot, &v.parts[i], rec.Unsynced && !rec.Intact); err != nil {
				return err
			}
		}
		if v.slot.refs > 0 {
			used[v.slot.number] = true
			j.use(v.slot)
			r.log.live.Add(v.slot.bytes)
		}
	}
	begun, hold := r.log.syncs()
	for n := range j.next {
		if !used[n] {
			// The last writer may have synced the value and not the block.
			j.giveBack(n, hold || rec.Unsynced, begun)
		}
	}
	return nil
}

func (r *recovery) addPart(sl *slot, je *journalPart, verify bool) error {
	ld := r.loads[je.id]
	if ld == nil || je.b.End() <= r.horizons[je.id] {
		return nil
	}
	if je.b.First < ld.end() {
		return r.recoverPart(ld, je.id, &je.b, verify)
	}
	sl.refs++
	ld.parts = append(ld.parts, foundPart{je.b, sl.number})
	r.log.slots.bytes += int64(je.b.Size())
	return nil
}

// publish publishes a shard's first view.
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
		v.gather(b, ld.parts[i].slot)
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
