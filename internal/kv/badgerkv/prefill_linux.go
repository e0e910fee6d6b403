package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// zeros is never written to, so that all stores share it and it takes no heap.
var zeros [256 << 10]byte

// prefiller fills holes of the newest file of a kind, which is the one that
// Badger writes to. It is guarded by Store.txMu.
type prefiller struct {
	dir, ext string
	width    int   // digits of a file's number in its name
	limit    int64 // a file is full at about this size
	chunk    int64
	fid      uint32
	f        *os.File
	end      int64 // where the next hole may begin
	left     int64 // bytes that can be committed before the next look
}

// newPrefillers returns none where filling is not known to be safe.
func newPrefillers(o Options) []*prefiller {
	var st unix.Statfs_t
	if unix.Statfs(o.Dir, &st) != nil || (st.Type != unix.EXT4_SUPER_MAGIC && st.Type != unix.XFS_SUPER_MAGIC) {
		return nil
	}
	values := &prefiller{dir: o.Dir, ext: ".vlog", width: 6, limit: o.ValueLogFile, chunk: prefillChunk}
	if !o.SyncWrites {
		return []*prefiller{values}
	}
	return []*prefiller{values, {dir: o.Dir, ext: ".mem", width: 5, limit: memTableSize, chunk: memTableSize}}
}

func (p *prefiller) close() {
	if p.f != nil {
		p.f.Close()
		p.f = nil
	}
}

// prefill is called before bytes are committed, so many in value log entries
// and so many in the log of the memtable, with txMu held.
func (s *Store) prefill(values, tree int64) {
	for i, p := range s.fillers {
		n := values
		if p.ext == ".mem" {
			n = tree
		}
		if p.left -= n; p.left >= 0 && (p.ext == ".vlog" || !p.moved()) {
			continue
		}
		if !s.gcMu.TryLock() {
			return // value log GC writes to the files too
		}
		err := p.fill(n)
		s.gcMu.Unlock()
		if err != nil {
			// Speed is all that is lost.
			p.close()
			s.fillers = append(s.fillers[:i:i], s.fillers[i+1:]...)
			return
		}
	}
}

// moved tells whether Badger writes to another file by now.
func (p *prefiller) moved() bool {
	return p.f == nil || exists(p.path(p.fid+1)) || !exists(p.path(p.fid))
}

// fill makes sure that there is room for n bytes, and some more.
func (p *prefiller) fill(n int64) error {
	if err := p.follow(); err != nil {
		return err
	}
	fd := int(p.f.Fd())
	hole, err := unix.Seek(fd, p.end, unix.SEEK_HOLE)
	if err != nil {
		return err
	}
	end := min(hole+max(p.chunk, 2*n), p.limit+p.chunk/4)
	// The hole may end before that.
	switch data, err := unix.Seek(fd, hole, unix.SEEK_DATA); {
	case err == nil:
		end = min(end, data)
	case !errors.Is(err, unix.ENXIO):
		return err
	}
	// Nor may the file become longer than it is.
	fi, err := p.f.Stat()
	if err != nil {
		return err
	}
	end = min(end, fi.Size())
	for at := hole; at < end; {
		w, err := p.f.WriteAt(zeros[:min(int64(len(zeros)), end-at)], at)
		if err != nil {
			return err
		}
		at += int64(w)
	}
	p.end, p.left = max(hole, end), max(end-hole, p.chunk/4)
	return nil
}

// follow opens the newest file.
func (p *prefiller) follow() error {
	if p.f != nil && !p.moved() {
		return nil
	}
	fid, err := p.newest()
	if err != nil {
		return err
	}
	p.close()
	p.f, err = os.OpenFile(p.path(fid), os.O_RDWR, 0)
	p.fid, p.end = fid, 0
	return err
}

func (p *prefiller) path(fid uint32) string {
	return filepath.Join(p.dir, fmt.Sprintf("%0*d%s", p.width, fid, p.ext))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// newest returns the highest number of a file.
func (p *prefiller) newest() (last uint32, err error) {
	names, err := filepath.Glob(filepath.Join(p.dir, "*"+p.ext))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		var n uint32
		if _, err := fmt.Sscanf(filepath.Base(name), "%d", &n); err == nil {
			last = max(last, n)
		}
	}
	if len(names) == 0 {
		return 0, os.ErrNotExist
	}
	return last, nil
}
