package badgerkv

import (
	"encoding/hex"
	"errors"
	"math"
	"os"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// View is what can be read of a directory without Badger, as Open would find it.
type View struct {
	*badgerfile.View
	// Entries are those of the journal, in order.
	Entries [][]byte
}

// OpenView reads what can be read of the files, and of the redo log. Keys for
// which inValues returns true are also searched for in the value log if there is
// damage. Damage of the redo log is added to that of the files.
func OpenView(f *Files, inValues func(key []byte) bool) (*View, error) {
	files, err := badgerfile.OpenView(f, inValues)
	if err != nil {
		return nil, err
	}
	v := &View{View: files}
	err = v.redo(f)
	var d *shardlog.DamageError
	if errors.As(err, &d) {
		f.Damage, err = append(f.Damage, d), nil
	}
	if err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// redo adds what the redo log of a directory has. If that is damaged, the error is a
// *shardlog.DamageError, and what can be read of it was added.
func (v *View) redo(f *Files) error {
	b, err := v.Get(redoKey)
	if errors.Is(err, shardlog.ErrNotFound) {
		return v.orphaned(f)
	}
	if err != nil {
		return err
	}
	i, err := decodeIdentity(b)
	if err != nil {
		return err
	}
	o := redo.Options{Path: f.Dir.File(badgerfile.RedoName), ID: i.id, Key: i.key, Open: redo.OpenReadOnly}
	r, err := readRedo(o, !f.Inventory.SameBoot())
	var damaged *shardlog.DamageError
	if errors.As(err, &damaged) {
		r = &redoFrames{}
		err = redo.Salvage(o, func(fr redo.Frame) error { r.add(fr, false); return nil })
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	v.Recovers(r.recovers(!f.Inventory.SameBoot()))
	base := uint64(0)
	if damaged == nil && len(f.Damage) == 0 {
		base = r.mark.Base // what is not above it the files have, or what replaced it
	}
	v.putChanges(r.frames, base)
	committed, err := entryVersion(v.Get)
	if err != nil {
		return err
	}
	if damaged == nil {
		err = r.missing(f.Dir.Path, committed, r.synced || f.Inventory.SameBoot())
	} else {
		err = damaged
	}
	if err != nil {
		// What has ended is kept, also if its other changes are lost.
		committed = max(committed, r.ended)
	}
	v.addEntries(r.frames, committed)
	return err
}

// putChanges adds the changes of frames above a version.
func (v *View) putChanges(frames []redo.Frame, base uint64) {
	for _, fr := range frames {
		if fr.Version <= base {
			continue
		}
		for _, op := range fr.Ops {
			v.Put(badgerfile.Entry{Key: op.Key, Value: op.Value, Version: fr.Version, Deleted: op.Delete})
		}
	}
}

// addEntries adds the entries that count, where commits with one reached a version.
func (v *View) addEntries(frames []redo.Frame, committed uint64) {
	for i := range frames {
		if counts(&frames[i], committed) {
			v.Entries = append(v.Entries, frames[i].Entry)
		}
	}
}

// orphaned adds what the redo log has of a store that is damaged and has lost its identity,
// if the inventory has that of the ring. Without its key one that is sealed says nothing.
func (v *View) orphaned(f *Files) error {
	var id redo.ID
	if len(f.Damage) == 0 || f.Dir.Redo == nil || f.Inventory == nil || len(f.Keys) > 0 {
		return nil
	}
	if n, err := hex.Decode(id[:], []byte(f.Inventory.Ring)); err != nil || n != len(id) {
		return nil
	}
	r := &redoFrames{}
	err := redo.Salvage(redo.Options{Path: f.Dir.File(badgerfile.RedoName), ID: id}, func(fr redo.Frame) error { r.add(fr, false); return nil })
	if err != nil {
		return err
	}
	v.putChanges(r.frames, 0)
	committed, err := entryVersion(v.Get)
	v.addEntries(r.frames, max(committed, r.ended))
	return err
}

// redoFrames is what is in a redo log.
type redoFrames struct {
	mark   redo.Mark
	synced bool // frames were, one by one
	commits
	frames []redo.Frame
}

func readRedo(o redo.Options, lost bool) (*redoFrames, error) {
	r := &redoFrames{}
	var err error
	r.mark, r.synced, err = eachFrame(o, lost, r.add)
	return r, err
}

// eachFrame calls f with each frame of a redo log, and whether frames were synced one by one.
func eachFrame(o redo.Options, lost bool, f func(fr redo.Frame, synced bool)) (mark redo.Mark, synced bool, err error) {
	ring, err := redo.Open(o)
	if err != nil {
		return mark, false, err
	}
	mark, synced = ring.Mark(), ring.Syncs()
	err = ring.Read(lost, func(fr redo.Frame) error { f(fr, synced); return nil })
	return mark, synced, errors.Join(err, ring.Close())
}

func (r *redoFrames) add(fr redo.Frame, synced bool) {
	r.see(&fr, synced)
	r.frames = append(r.frames, fr)
}

// recovers returns up to which version Open finds the values that a crash of the system has
// taken, as recover does.
func (r *redoFrames) recovers(crashed bool) uint64 {
	for i := range r.frames {
		if len(r.frames[i].Ops) > 0 && r.frames[i].Version > r.mark.Base {
			return math.MaxUint64
		}
	}
	switch {
	case r.mark.Clean:
		return 0
	case r.synced:
		return math.MaxUint64
	case crashed:
		return r.mark.Base
	}
	return 0
}
