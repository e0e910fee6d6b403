package logstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Reader is the part of a store that Verify needs.
type Reader interface {
	Get(key []byte) ([]byte, error)
	Scan(prefix []byte, f func(key []byte, size int64) bool) error
}

// Fault is something of the log that cannot be read, or is missing.
type Fault struct {
	ID  ID
	Key []byte // of the value that is damaged; nil if records are missing
	// First and Last are the counters of the records that are lost; both are 0
	// where that is not known.
	First, Last uint64
	Err         error
}

// Verified counts what was read and found whole.
type Verified struct {
	Blocks, Journal int
	Records, Bytes  int64
}

// verifier is a Verify under way.
type verifier struct {
	ctx      context.Context
	store    Reader
	entries  [][]byte
	shards   map[ID]uint64
	report   func(Fault)
	horizons map[ID]uint64
	next     map[ID]uint64 // the counter with which the shard's records continue
	missing  []Fault       // gaps between blocks, which the journal may fill
	coder    block.Coder
	Verified
}

// Verify reads all blocks of a store that no log has open, and the entries of its
// journal, and calls report for what is damaged or missing. Shards are those that there
// should be, with their Config.Base; what is stored of others is ignored. The
// error is that of ctx or of a store that fails.
func Verify(ctx context.Context, store Reader, entries [][]byte, shards map[ID]uint64, report func(Fault)) (Verified, error) {
	v := &verifier{ctx: ctx, store: store, entries: entries, shards: shards, report: report, horizons: map[ID]uint64{}, next: map[ID]uint64{}}
	for id, base := range shards {
		v.next[id] = base + 1
	}
	for _, step := range []func() error{v.readHorizons, v.blocks, v.journal} {
		if err := step(); err != nil {
			return v.Verified, err
		}
	}
	return v.Verified, nil
}

// keys returns copies of the keys with a prefix.
func (v *verifier) keys(prefix byte) (keys [][]byte, err error) {
	err = v.store.Scan([]byte{prefix}, func(k []byte, _ int64) bool {
		keys = append(keys, append([]byte(nil), k...))
		return true
	})
	return keys, err
}

func (v *verifier) readHorizons() error {
	keys, err := v.keys(prefixHorizon)
	for _, k := range keys {
		id, ok := parseHorizonKey(k)
		if _, known := v.shards[id]; !ok || !known {
			continue
		}
		b, err := v.store.Get(k)
		if err == nil && len(b) != 8 {
			err = fmt.Errorf("%w: a trim horizon of %d bytes", shardlog.ErrCorrupt, len(b))
		}
		if err != nil {
			v.report(Fault{ID: id, Key: k, Err: err})
			continue
		}
		v.horizons[id] = binary.BigEndian.Uint64(b)
		v.next[id] = max(v.next[id], v.horizons[id])
	}
	return err
}

func (v *verifier) blocks() error {
	keys, err := v.keys(prefixBlock)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if v.ctx.Err() != nil {
			return shardlog.ContextError(v.ctx)
		}
		id, e, ok := parseBlockKey(k)
		if _, known := v.shards[id]; !known || ok && (e.end() <= v.horizons[id] || e.first < v.next[id] && e.end() <= v.next[id]) {
			continue // removed, and not cleaned up yet
		}
		value, err := v.store.Get(k)
		var b block.Block
		if err == nil {
			b, err = v.coder.Decode(value)
		}
		if err == nil && (b.First != e.first || b.Count != e.count) {
			err = fmt.Errorf("%w: block header does not match its key", shardlog.ErrCorrupt)
		}
		if err != nil {
			v.report(Fault{ID: id, Key: k, First: e.first, Last: e.end() - 1, Err: err})
			v.next[id] = e.end()
			continue
		}
		v.follow(id, &b)
		v.Blocks++
		v.Bytes += int64(len(value))
	}
	return nil
}

// follow notes a block's records, and whether those before it are there.
func (v *verifier) follow(id ID, b *block.Block) {
	if next := v.next[id]; b.Prev >= next && b.Prev < b.First {
		v.missing = append(v.missing, missing(id, next, b.Prev))
	}
	v.next[id] = b.End()
	v.Records += int64(b.Count)
}

func missing(id ID, first, last uint64) Fault {
	return Fault{ID: id, First: first, Last: last, Err: fmt.Errorf("%w: records are missing", shardlog.ErrCorrupt)}
}

// fills notes a part that opening the log will make a block of, because its records
// are in a gap between blocks.
func (v *verifier) fills(id ID, b *block.Block) {
	for i := range v.missing {
		f := &v.missing[i]
		if f.ID != id || b.First < f.First || b.End()-1 > f.Last {
			continue
		}
		if last := f.Last; b.End() <= last {
			v.missing = append(v.missing, missing(id, b.End(), last))
			f = &v.missing[i]
		}
		if f.Last = b.First - 1; f.First > f.Last {
			v.missing = slices.Delete(v.missing, i, i+1)
		}
		v.Records += int64(b.Count)
		return
	}
}

func (v *verifier) journal() error {
	keys, err := v.keys(prefixJournal)
	if err != nil {
		return err
	}
	type value struct {
		group uint64
		parts []journalPart
	}
	var values []value
	for _, k := range keys {
		b, err := v.store.Get(k)
		if err != nil {
			v.report(Fault{Key: k, Err: err})
			continue
		}
		group, parts, err := decodeSlot(b)
		if err != nil {
			v.report(Fault{Key: k, Err: fmt.Errorf("%w: journal value: %v", shardlog.ErrCorrupt, err)})
		} else {
			v.Journal++
		}
		values = append(values, value{group, parts})
	}
	sort.Slice(values, func(i, j int) bool { return values[i].group < values[j].group })
	for _, e := range v.entries {
		parts, err := decodeEntry(e)
		if err != nil {
			v.report(Fault{Err: fmt.Errorf("%w: entry of the journal: %v", shardlog.ErrCorrupt, err)})
		} else {
			v.Journal++
		}
		values = append(values, value{parts: parts})
	}
	for _, val := range values {
		for i := range val.parts {
			e := &val.parts[i]
			if _, known := v.shards[e.id]; !known {
				continue
			}
			if e.b.First >= v.next[e.id] {
				v.follow(e.id, &e.b)
			} else {
				v.fills(e.id, &e.b)
			}
		}
	}
	for _, f := range v.missing {
		v.report(f)
	}
	return nil
}

// Useful reports whether a value that Verify called damaged still holds
// records: a journal value may have some that are whole.
func Useful(key, value []byte) bool {
	if _, ok := parseSlotKey(key); !ok {
		return false
	}
	_, parts, _ := decodeSlot(value)
	return len(parts) > 0
}

// Owns reports whether a key is one of those that Verify reads.
func Owns(key []byte) bool {
	return len(key) > 0 && (key[0] == prefixBlock || key[0] == prefixHorizon || key[0] == prefixJournal)
}

// IsBlock reports whether a key is that of a block.
func IsBlock(key []byte) bool {
	_, _, ok := parseBlockKey(key)
	return ok
}
