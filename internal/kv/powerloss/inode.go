//go:build linux

package powerloss

import (
	"bytes"
	"io"
	"maps"
	"os"
)

// sector is what a disk writes whole or not at all, in bytes.
const sector = 512

// version is what a sector held from a moment on.
type version struct {
	seq  int
	data []byte // one sector
}

// length is how long a file was from a moment on.
type length struct {
	seq  int
	size int64
}

// inode is a file, under whatever name, with what a disk may have of it.
type inode struct {
	f     *os.File // kept open, so that the number of the inode is not used again
	exact bool     // its writes come through Recorder.write, and it need not be read
	// mapped is how many mappings there are to which the store writes anyway.
	mapped int
	class  Class
	// sealed says that it is a table that is synced; nothing is written to it.
	sealed bool

	now     []byte // what it holds, zeros behind its end
	durable []byte // what a sync made durable
	// unsynced are the versions of sectors since then, oldest first; none equals
	// the one before it.
	unsynced map[int][]version
	seen     int // when a change was last seen
	high     int // behind the last sector that was ever other than zero
	// sizes begins with the durable one.
	sizes []length
}

func newInode(f *os.File, class Class, seq int) *inode {
	return &inode{f: f, class: class, unsynced: map[int][]version{}, sizes: []length{{seq, 0}}}
}

func (n *inode) size() int64 { return n.sizes[len(n.sizes)-1].size }

// look notes what the file holds now.
func (n *inode) look(seq int, buf *[]byte) error {
	if n.sealed {
		return nil
	}
	fi, err := n.f.Stat()
	if err != nil {
		return err
	}
	size, was := fi.Size(), n.size()
	n.resize(seq, size)
	if n.exact && n.mapped == 0 {
		return nil
	}
	if int64(cap(*buf)) < size {
		*buf = make([]byte, size)
	}
	b := (*buf)[:size]
	m, err := n.f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return err
	}
	n.changed(seq, 0, b[:m])
	if size > 0 && size < was && (n.class == WAL || n.class == Values) {
		// Badger syncs a mapped file before it cuts it.
		n.flatten(seq)
	}
	return nil
}

func (n *inode) resize(seq int, size int64) {
	if size != n.size() {
		n.seen = seq
		n.sizes = append(n.sizes, length{seq, size})
	}
	if need := int(size+sector-1) / sector * sector; need > len(n.now) {
		n.now = append(n.now, make([]byte, need-len(n.now))...)
		n.durable = append(n.durable, make([]byte, need-len(n.durable))...)
	}
}

// written notes that b is written at an offset.
func (n *inode) written(seq, at int, b []byte) {
	from := at / sector * sector
	whole := append(bytes.Clone(n.now[from:at]), b...)
	n.changed(seq, from, whole)
}

// changed notes that the file holds b at an offset, which begins a sector.
func (n *inode) changed(seq, at int, b []byte) {
	const page = 8 * sector
	for from := 0; from < len(b); from += page {
		p := b[from:min(from+page, len(b))]
		if bytes.Equal(p, n.now[at+from:][:len(p)]) {
			continue
		}
		for i := 0; i < len(p); i += sector {
			s := p[i:min(i+sector, len(p))]
			old := n.now[at+from+i:][:len(s)]
			if bytes.Equal(s, old) {
				continue
			}
			copy(old, s)
			n.seen = seq
			k := (at + from + i) / sector
			n.high = max(n.high, (k+1)*sector)
			n.unsynced[k] = append(n.unsynced[k], version{seq, bytes.Clone(n.now[k*sector:][:sector])})
		}
	}
}

// synced notes that a sync that began at a moment has returned.
func (n *inode) synced(began int) {
	for k, versions := range n.unsynced {
		i := 0
		for i < len(versions) && versions[i].seq <= began {
			i++
		}
		if i > 0 {
			copy(n.durable[k*sector:], versions[i-1].data)
		}
		if i == len(versions) {
			delete(n.unsynced, k)
		} else {
			n.unsynced[k] = versions[i:]
		}
	}
	for len(n.sizes) > 1 && n.sizes[1].seq <= began {
		n.sizes = n.sizes[1:]
	}
}

// syncedHead is synced for the first pages of a redo log, and for its size.
func (n *inode) syncedHead(began int) {
	frames := map[int][]version{}
	for k, v := range n.unsynced {
		if k >= ringHead/sector {
			frames[k] = v
			delete(n.unsynced, k)
		}
	}
	n.synced(began)
	maps.Copy(n.unsynced, frames)
}

// flatten makes the contents durable, but not the size.
func (n *inode) flatten(seq int) {
	sizes := n.sizes
	n.synced(seq)
	n.sizes = sizes
}
