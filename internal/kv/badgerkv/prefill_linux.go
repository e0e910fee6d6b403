package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// prefiller fills holes of the value log file that is written to. It is
// guarded by Store.txMu.
type prefiller struct {
	dir   string
	limit int64 // a file is full at about this size
	zeros []byte
	fid   uint32
	f     *os.File
	end   int64 // where the next hole may begin
	left  int64 // bytes that can be committed before the next look
}

// newPrefiller returns nil where filling does not pay or is not known to be
// safe.
func newPrefiller(o Options) *prefiller {
	var st unix.Statfs_t
	if o.SyncWrites || unix.Statfs(o.Dir, &st) != nil || (st.Type != unix.EXT4_SUPER_MAGIC && st.Type != unix.XFS_SUPER_MAGIC) {
		return nil
	}
	return &prefiller{dir: o.Dir, limit: o.ValueLogFile}
}

func (p *prefiller) close() {
	if p != nil && p.f != nil {
		p.f.Close()
		p.f = nil
	}
}

// prefill is called before n bytes are committed, with txMu held.
func (s *Store) prefill(n int64) {
	p := s.filler
	if p == nil {
		return
	}
	if p.left -= n; p.left >= 0 {
		return
	}
	if !s.gcMu.TryLock() {
		return // value log GC writes to the file too
	}
	defer s.gcMu.Unlock()
	if err := p.fill(n); err != nil {
		// Speed is all that is lost.
		p.close()
		s.filler = nil
	}
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
	end := min(hole+max(prefillChunk, 2*n), p.limit+prefillChunk)
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
	if p.zeros == nil {
		p.zeros = make([]byte, prefillChunk)
	}
	for at := hole; at < end; {
		w, err := p.f.WriteAt(p.zeros[:min(prefillChunk, end-at)], at)
		if err != nil {
			return err
		}
		at += int64(w)
	}
	p.end, p.left = max(hole, end), max(end-hole, prefillChunk/4)
	return nil
}

// follow opens the newest value log file, which is the one written to.
func (p *prefiller) follow() error {
	fid := p.fid
	for p.f == nil || exists(p.path(fid+1)) {
		entry := fid + 1
		if p.f == nil && fid == 0 {
			last, err := lastFile(p.dir)
			if err != nil {
				return err
			}
			entry = last
		}
		p.close()
		f, err := os.OpenFile(p.path(entry), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		p.f, p.fid, p.end = f, entry, 0
		fid = entry
	}
	return nil
}

func (p *prefiller) path(fid uint32) string {
	return filepath.Join(p.dir, fmt.Sprintf("%06d.vlog", fid))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lastFile returns the highest number of a value log file in dir.
func lastFile(dir string) (last uint32, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		var n uint32
		if _, err := fmt.Sscanf(filepath.Base(name), "%d.vlog", &n); err == nil {
			last = max(last, n)
		}
	}
	if last == 0 {
		return 0, os.ErrNotExist
	}
	return last, nil
}
