// Package badgerfile reads the files of a Badger directory without Badger and
// without writing to them. Badger trusts its files: of a damaged one it drops
// what follows the damage, leaves out the table, or ends the process. So this
// package examines them before Badger opens them, and reads them where Badger
// cannot open them any more.
//
// The layouts are those of Badger 4 as manifest.go, key_registry.go,
// memtable.go and table/builder.go of that module write them.
package badgerfile

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shardlog/shardlog"
)

// Names of files, and the suffixes of those that are numbered.
const (
	ManifestName = "MANIFEST"
	RegistryName = "KEYREGISTRY"
	DiscardName  = "DISCARD"
	// RedoName is the redo log, which is ours; see package redo.
	RedoName    = "REDO"
	tableSuffix = ".sst"
	valueSuffix = ".vlog"
	walSuffix   = ".mem"
)

// File is a file of the directory.
type File struct {
	Name   string
	Number uint64 // of a table or a log
	Size   int64
}

// Dir lists what belongs to a Badger database in a directory. Files of other
// kinds are not in it. A nil pointer means that there is no such file.
type Dir struct {
	Path                        string
	Manifest, Registry, Discard *File
	Redo                        *File
	// Tables, Values and WALs are sorted by number.
	Tables, Values, WALs []File
	// Foreign are names that Badger takes for its logs, and fails over.
	Foreign []string
}

// List lists a directory. One that does not exist is empty.
func List(path string) (*Dir, error) {
	d := &Dir{Path: path}
	entries, err := os.ReadDir(path)
	if os.IsNotExist(err) {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if foreign(e) {
			d.Foreign = append(d.Foreign, e.Name())
			continue
		}
		if e.IsDir() {
			continue
		}
		fi, err := os.Stat(d.File(e.Name())) // of what a link leads to
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d.add(File{Name: e.Name(), Size: fi.Size()})
	}
	for _, files := range [][]File{d.Tables, d.Values, d.WALs} {
		slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Number, b.Number) })
	}
	return d, nil
}

// foreign reports whether something has the name of a log and is none.
func foreign(e os.DirEntry) bool {
	for _, suffix := range []string{valueSuffix, walSuffix} {
		if number, ok := strings.CutSuffix(e.Name(), suffix); ok {
			_, err := strconv.ParseUint(number, 10, 32)
			return err != nil || e.IsDir()
		}
	}
	return false
}

func (d *Dir) add(f File) {
	switch f.Name {
	case ManifestName:
		d.Manifest = &f
		return
	case RegistryName:
		d.Registry = &f
		return
	case DiscardName:
		d.Discard = &f
		return
	case RedoName:
		d.Redo = &f
		return
	}
	for suffix, files := range map[string]*[]File{tableSuffix: &d.Tables, valueSuffix: &d.Values, walSuffix: &d.WALs} {
		name, ok := strings.CutSuffix(f.Name, suffix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(name, 10, 63); err == nil {
			f.Number = n
			*files = append(*files, f)
		}
	}
}

// OwnFile reports whether a file with the name belongs to a database.
func OwnFile(name string) bool {
	switch name {
	case InventoryName, InventoryName + ".new", RedoName + ".new", "LOCK", "MANIFEST-REWRITE", "REWRITE-KEYREGISTRY":
		return true
	}
	var d Dir
	d.add(File{Name: name})
	return len(d.All()) > 0
}

// All returns all files.
func (d *Dir) All() []File {
	var all []File
	for _, f := range []*File{d.Manifest, d.Registry, d.Discard, d.Redo} {
		if f != nil {
			all = append(all, *f)
		}
	}
	return slices.Concat(all, d.Tables, d.Values, d.WALs)
}

// File returns the path of a file.
func (d *Dir) File(name string) string { return filepath.Join(d.Path, name) }

// TableName returns the name of a table's file.
func TableName(number uint64) string { return fmt.Sprintf("%06d%s", number, tableSuffix) }

// ValueName returns the name of a value log file.
func ValueName(number uint64) string { return fmt.Sprintf("%06d%s", number, valueSuffix) }

// WALName returns the name of the write-ahead log of a memtable.
func WALName(number uint64) string { return fmt.Sprintf("%05d%s", number, walSuffix) }

// Remedy is what a DamageError advises.
const Remedy = `restore it from a backup, or keep what is readable with "shardlog check -repair"`

// damage returns a DamageError; offset is -1 for the whole file.
func damage(path string, offset int64, format string, args ...any) *shardlog.DamageError {
	return &shardlog.DamageError{Path: path, Offset: offset, Reason: fmt.Sprintf(format, args...), Remedy: Remedy}
}
