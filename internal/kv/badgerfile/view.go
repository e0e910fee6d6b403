package badgerfile

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4/y"

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
	files   map[uint32]*valueFile
	// Damage is what was found while it was built.
	Damage []*shardlog.DamageError
}

// valueFile is an open file of the value log.
type valueFile struct {
	f   *os.File
	key []byte
	iv  []byte
}

// OpenView reads the tables and write-ahead logs of a report. If the manifest
// cannot be read, or does not name all tables, all are read. Entries that
// follow damage are included. If there is damage, keys for which inValues
// returns true are also searched for in the value log, where they may stand
// although the write-ahead log has lost them; one that was deleted may then be
// there again.
func OpenView(r *Report, inValues func(key []byte) bool) (*View, error) {
	v := &View{dir: r.Dir, keys: r.Keys, entries: map[string]Entry{}, files: map[uint32]*valueFile{}}
	if v.keys == nil {
		v.keys = Keys{} // what is not encrypted can be read
	}
	for _, f := range r.Dir.Tables {
		t, named := Table{}, false
		if r.Manifest != nil {
			if t, named = r.Manifest.Tables[f.Number]; !named && (r.Manifest.Named[f.Number] || !r.incomplete()) {
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

// incomplete reports whether the manifest is among the damage.
func (r *Report) incomplete() bool {
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
	return v.value(key, e.Pointer)
}

// value reads a value from the value log, and verifies it.
func (v *View) value(key []byte, p *Pointer) ([]byte, error) {
	path := v.dir.File(ValueName(uint64(p.File)))
	vf, err := v.file(p.File)
	if err != nil {
		return nil, damage(path, -1, "a value is in it, and it cannot be read: %v", err)
	}
	bad := func(what string) ([]byte, error) {
		return nil, damage(path, int64(p.Start), "the value there %s", what)
	}
	b := make([]byte, p.Size)
	if p.Size < 10 {
		return bad("has no room")
	}
	if _, err := vf.f.ReadAt(b, int64(p.Start)); err != nil {
		return bad("is missing: the file is shorter")
	}
	body := b[:len(b)-crc32.Size]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return bad("fails its checksum")
	}
	n := 2
	var fields [3]uint64
	for i := range fields {
		x, k := binary.Uvarint(body[n:])
		if k <= 0 {
			return bad("makes no sense")
		}
		fields[i], n = x, n+k
	}
	if uint64(len(body)-n) != fields[0]+fields[1] || fields[0] < 8 {
		return bad("makes no sense")
	}
	kv := body[n:]
	if vf.key != nil {
		iv := binary.BigEndian.AppendUint32(slices.Clone(vf.iv), p.Start)
		if kv, err = y.XORBlockAllocate(kv, vf.key, iv); err != nil {
			return bad("cannot be decrypted")
		}
	}
	if string(kv[:fields[0]-8]) != string(key) {
		return bad("belongs to another key")
	}
	return kv[fields[0]:], nil
}

// file returns an open file of the value log.
func (v *View) file(number uint32) (*valueFile, error) {
	if vf := v.files[number]; vf != nil {
		return vf, nil
	}
	path := v.dir.File(ValueName(uint64(number)))
	b, err := readUpTo(path, LogHeader)
	if err != nil {
		return nil, err
	}
	if len(b) < LogHeader {
		return nil, errors.New("it ends inside its header")
	}
	id := binary.BigEndian.Uint64(b)
	if !v.keys.Has(id) {
		return nil, errors.New("the data key that its header names is unknown")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	vf := &valueFile{f: f, key: v.keys[id], iv: b[8:]}
	v.files[number] = vf
	return vf, nil
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
func (v *View) Close() {
	for _, vf := range v.files {
		vf.f.Close()
	}
}
