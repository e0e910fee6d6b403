//go:build linux

package powerloss

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Class says what a file or a part of it is for. Classes are bits of a set.
type Class uint

// Classes.
const (
	RingHead Class = 1 << iota // the first pages of the redo log, with its state
	RingBody                   // the rest of it
	WAL                        // the logs of memtables
	Values                     // the value log
	Table
	Manifest
	Other

	Ring = RingHead | RingBody
	All  = Other<<1 - 1
)

// Has reports whether c has something of o.
func (c Class) Has(o Class) bool { return c&o != 0 }

func classOf(name string) Class {
	switch filepath.Ext(name) {
	case ".mem":
		return WAL
	case ".vlog":
		return Values
	case ".sst":
		return Table
	}
	switch name {
	case badgerfile.RedoName:
		return RingBody
	case badgerfile.ManifestName:
		return Manifest
	}
	return Other
}

// bound is which file a name stood for from a moment on; nil for none.
type bound struct {
	seq int
	n   *inode
}

// name is a name in the directory. Its values begin with the durable one.
type name struct{ values []bound }

// now returns which file has the name, nil for none.
func (n *name) now() *inode {
	if n == nil {
		return nil
	}
	return n.values[len(n.values)-1].n
}

func (n *name) synced(began int) {
	for n != nil && len(n.values) > 1 && n.values[1].seq <= began {
		n.values = n.values[1:]
	}
}

// lookNames notes the names in the directory, of files of some classes.
func (r *Recorder) lookNames(c Class) error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		if e.IsDir() || e.Name() == "LOCK" || !c.Has(classOf(e.Name())) {
			continue
		}
		ok, err := r.lookName(e.Name())
		if err != nil {
			return err
		}
		if ok {
			there[e.Name()] = true
		}
	}
	for base, n := range r.names {
		if !there[base] && n.now() != nil && c.Has(classOf(base)) {
			n.values = append(n.values, bound{r.seq, nil})
		}
	}
	return nil
}

// lookName notes which file has a name; ok is false if none has.
func (r *Recorder) lookName(base string) (ok bool, err error) {
	path := filepath.Join(r.dir, base)
	fi, err := os.Stat(path)
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	known := r.names[base]
	if f := known.now(); f != nil {
		if is, err := f.f.Stat(); err == nil && os.SameFile(fi, is) {
			return true, nil
		}
	}
	file := r.inode(fi)
	if file == nil {
		f, err := os.Open(path)
		if isGone(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if file, err = r.found(f, base); err != nil {
			return false, err
		}
	}
	if known == nil {
		known = &name{values: []bound{{r.seq, nil}}}
		r.names[base] = known
	}
	known.values = append(known.values, bound{r.seq, file})
	file.class = classOf(base)
	return true, nil
}

// found adds a file that is new.
func (r *Recorder) found(f *os.File, base string) (*inode, error) {
	n := newInode(f, classOf(base), r.seq)
	r.inodes = append(r.inodes, n)
	if !strings.HasPrefix(base, badgerfile.ManifestName) {
		return n, nil
	}
	// Badger makes a manifest with one entry, syncs it, and gives it its name.
	if err := n.look(r.seq, &r.buf); err != nil {
		return nil, err
	}
	if base == badgerfile.ManifestName && n.size() >= 16 {
		first := 16 + int64(uint32(n.now[8])<<24|uint32(n.now[9])<<16|uint32(n.now[10])<<8|uint32(n.now[11]))
		if first <= n.size() {
			whole := n.size()
			n.sizes = []length{{r.seq, first}}
			copy(n.durable, n.now[:first])
			n.unsynced = map[int][]version{}
			if whole > first {
				n.resize(r.seq, whole)
				for k := int(first) / sector; k*sector < len(n.now); k++ {
					n.unsynced[k] = []version{{r.seq, append([]byte(nil), n.now[k*sector:][:sector]...)}}
				}
			}
		}
	}
	return n, nil
}
