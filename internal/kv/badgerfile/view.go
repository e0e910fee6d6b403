package badgerfile

import (
	"errors"
	"slices"
	"strings"

	"github.com/shardlog/shardlog"
)

// View is what can be read of a directory, each key with its newest version,
// without Badger. It holds all keys, and the values that are not in the value
// log, in memory. It is for one goroutine.
type View struct {
	dir     *Dir
	keys    Keys
	entries map[string]Entry
	sorted  []string
	values  *Values
	// originals are places of values whose copy by space reclaiming may be lost; nil
	// while they are not searched for.
	originals map[string]Pointer
	recovers  uint64 // see Recovers
	// Damage is what was found while it was built.
	Damage []*shardlog.DamageError
}

// OpenView reads the tables and write-ahead logs of a report. If the manifest
// cannot be read, or may not say which tables there are, those that it never names
// are read as well. Entries that follow damage are included. If there is damage,
// keys for which inValues returns true are also searched for in the value log, where
// they may stand although the write-ahead log has lost them; one that was deleted may
// then be there again.
func OpenView(r *Report, inValues func(key []byte) bool) (*View, error) {
	v := &View{dir: r.Dir, values: r.Values(), entries: map[string]Entry{}}
	v.keys = v.values.keys
	incomplete := r.Manifest == nil || r.incomplete()
	for _, f := range r.Dir.Tables {
		t, named := Table{}, false
		if r.Manifest != nil {
			if t, named = r.Manifest.Tables[f.Number]; !named && (r.Manifest.Named[f.Number] || !incomplete) {
				continue // merged into others
			}
		}
		if err := v.table(f, t, named); err != nil {
			return nil, err
		}
	}
	for _, f := range r.Dir.WALs {
		if f.Size == 0 {
			continue
		}
		if _, err := ReadLog(r.Dir.File(f.Name), f.Number, v.keys, true, func(e Entry) {
			if e.Value != nil {
				e.Pointer = nil // its place in the write-ahead log
			}
			v.add(e)
		}); err != nil {
			return nil, err
		}
	}
	if len(r.Damage) > 0 || len(v.Damage) > 0 {
		if err := v.valueLog(inValues); err != nil {
			return nil, err
		}
	}
	for k := range v.entries {
		v.sorted = append(v.sorted, k)
	}
	slices.Sort(v.sorted)
	return v, nil
}

// valueLog adds keys that are only in the value log.
func (v *View) valueLog(wanted func(key []byte) bool) error {
	for _, f := range v.dir.Values {
		if f.Size < LogHeader {
			continue
		}
		if _, err := ReadLog(v.dir.File(f.Name), f.Number, v.keys, true, func(e Entry) {
			if _, known := v.entries[string(e.Key)]; !known && wanted(e.Key) {
				e.Value = nil // it stays where it is
				v.add(e)
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// incomplete reports whether the manifest may not say which tables there are: it is
// damaged, or it names a table that is missing. The latter is also what a manifest
// looks like that was cut before its last entry, when that entry is of tables that
// were merged into others and removed.
func (r *Report) incomplete() bool {
	there := r.Dir.tableNumbers()
	for number := range r.Manifest.Tables {
		if !there[number] {
			return true
		}
	}
	return slices.ContainsFunc(r.Damage, func(d *shardlog.DamageError) bool { return strings.HasSuffix(d.Path, ManifestName) })
}

func (v *View) add(e Entry) {
	if old, ok := v.entries[string(e.Key)]; ok && old.Version > e.Version {
		return
	}
	v.entries[string(e.Key)] = e
}

// table adds the keys of a table. If the manifest does not name it, its
// encryption is found by trying.
func (v *View) table(f File, t Table, named bool) error {
	tries := []uint64{t.KeyID}
	if !named {
		for id := range v.keys {
			tries = append(tries, id)
		}
	}
	var found []*shardlog.DamageError
	for i, id := range tries {
		var here []*shardlog.DamageError
		note := func(err error) {
			var d *shardlog.DamageError
			if errors.As(err, &d) {
				here = append(here, d)
			}
		}
		got := 0
		err := salvageTable(v.dir.File(f.Name), Table{KeyID: id, Compressed: t.Compressed}, v.keys, func(e Entry) bool {
			got++
			e.Key, e.Value = slices.Clone(e.Key), slices.Clone(e.Value)
			v.add(e)
			return true
		}, note)
		if err != nil && !errors.Is(err, shardlog.ErrCorrupt) {
			return err
		}
		note(err)
		if found = here; got > 0 || i+1 == len(tries) {
			break
		}
	}
	v.Damage = append(v.Damage, found...)
	return nil
}

// Get returns a copy of a value. The error matches shardlog.ErrNotFound if there
// is none, or is a *shardlog.DamageError.
func (v *View) Get(key []byte) ([]byte, error) {
	e, ok := v.entries[string(key)]
	switch {
	case !ok || e.Deleted:
		return nil, shardlog.ErrNotFound
	case e.Pointer == nil:
		return slices.Clone(e.Value), nil
	}
	value, err := v.values.Get(key, e.Version, e.Pointer)
	if err != nil && e.Version <= v.recovers {
		if original, oerr := v.Original(key); oerr == nil {
			return original, nil
		}
	}
	return value, err
}

// Recovers says that a store recovers values up to a version when it is opened: of these
// Get finds what Original does as well.
func (v *View) Recovers(upTo uint64) { v.recovers = upTo }

// Original returns a value from the place where space reclaiming has copied it
// from, for one of which the copy is lost. Its errors are those of Get. The first call
// reads the whole value log.
func (v *View) Original(key []byte) ([]byte, error) {
	e := v.entries[string(key)]
	p, ok, err := v.original(e)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, shardlog.ErrNotFound
	}
	return v.values.Get(key, e.Version, &p)
}

// original returns where the value of an entry can be read.
func (v *View) original(e Entry) (p Pointer, ok bool, err error) {
	if v.originals == nil {
		found := map[string]Pointer{}
		err := v.values.Each(0, func(e Entry) error {
			if v.entries[string(e.Key)].Version == e.Version {
				found[string(e.Key)] = *e.Pointer
			}
			return nil
		})
		if err != nil {
			return p, false, err
		}
		v.originals = found
	}
	p, ok = v.originals[string(e.Key)]
	return p, ok, nil
}

// Put adds a version of a key, unless the view has a later one that can be read.
func (v *View) Put(e Entry) {
	old, known := v.entries[string(e.Key)]
	if known && old.Version >= e.Version {
		_, err := v.Get(e.Key)
		if old.Version > e.Version || err == nil || errors.Is(err, shardlog.ErrNotFound) {
			return
		}
	}
	v.entries[string(e.Key)] = e
	if !known {
		at, _ := slices.BinarySearch(v.sorted, string(e.Key))
		v.sorted = slices.Insert(v.sorted, at, string(e.Key))
	}
}

// Scan calls f for each key with the prefix, in order, until f returns false;
// size is about that of the value.
func (v *View) Scan(prefix []byte, f func(key []byte, size int64) bool) error {
	at, _ := slices.BinarySearch(v.sorted, string(prefix))
	for _, k := range v.sorted[at:] {
		if !strings.HasPrefix(k, string(prefix)) {
			break
		}
		e := v.entries[k]
		size := int64(len(e.Value))
		if e.Pointer != nil {
			size = int64(e.Pointer.Size)
		}
		if !e.Deleted && !f([]byte(k), size) {
			break
		}
	}
	return nil
}

// Close closes the files.
func (v *View) Close() { v.values.Close() }
