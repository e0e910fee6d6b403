package badgerkv

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Badger never syncs a commit here: with its SyncWrites it syncs both the value
// log and the log of the memtable, one after the other, also the one that did
// not change. Its DB.Sync reaches only the newest of each, and nothing syncs those
// that it filled before. So the files are synced through descriptors of our own.

// syncFiles makes everything durable that was committed before the call. A
// memtable whose log is gone is in a table, which Badger has synced.
func (s *Store) syncFiles() error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	logs, err := numbered(s.opts.Dir, ".vlog")
	if err != nil {
		return err
	}
	mems, err := numbered(s.opts.Dir, ".mem")
	if err != nil {
		return err
	}
	for _, f := range logs {
		if f.number < s.filled {
			continue // synced before, when it was no longer written to
		}
		if err := s.syncFile(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, f := range mems {
		if err := s.syncFile(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !syncsMappings {
		if err := s.db.Sync(); err != nil {
			return err
		}
	}
	return s.syncNames(logs, mems)
}

// syncNames makes the names of the files durable if there are new ones, with
// fileMu held.
func (s *Store) syncNames(logs, mems []numberedFile) error {
	log, mem := last(logs), last(mems)
	if log == s.filled && mem <= s.named {
		return nil
	}
	if err := s.disk.SyncDir(s.opts.Dir); err != nil {
		return err
	}
	s.filled, s.named = log, max(mem, s.named)
	return nil
}

// last returns the highest number, 0 if there is none.
func last(files []numberedFile) uint64 {
	if len(files) == 0 {
		return 0
	}
	return files[len(files)-1].number
}

// numberedFile is a file of Badger's that is named by a number.
type numberedFile struct {
	path   string
	number uint64
}

// numbered returns the files of dir with the extension, by number.
func numbered(dir, ext string) (files []numberedFile, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ext); ok {
			if n, err := strconv.ParseUint(name, 10, 64); err == nil {
				files = append(files, numberedFile{filepath.Join(dir, e.Name()), n})
			}
		}
	}
	slices.SortFunc(files, func(a, b numberedFile) int { return cmp.Compare(a.number, b.number) })
	return files, nil
}

func (s *Store) syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(s.disk.Sync(f), f.Close())
}

// newestFiles syncs the files that the last commit went to. Its fields are guarded
// by Store.txMu.
type newestFiles struct {
	log, mem openFile
}

// openFile is a numbered file that is kept open.
type openFile struct {
	f *os.File
	numberedFile
}

// syncCommit makes the commit that was made last durable, with txMu held. Values
// says that it went to the value log as well.
func (s *Store) syncCommit(values bool) error {
	if !syncsMappings {
		return s.syncFiles()
	}
	n := &s.newest
	if n.mem.f == nil || !newestLog(s.opts.Dir, n.mem.number) ||
		values && (n.log.f == nil || exists(valuePath(s.opts.Dir, n.log.number+1))) {
		// Badger began another file, before or after it wrote the commit.
		if err := n.reopen(s.opts.Dir); err != nil {
			return err
		}
		return s.syncFiles()
	}
	if !values {
		return s.disk.Sync(n.mem.f)
	}
	done := make(chan error, 1)
	go func() { done <- s.disk.Sync(n.log.f) }()
	err := s.disk.Sync(n.mem.f)
	return errors.Join(err, <-done)
}

// newestLog reports whether the log of a memtable is still the newest. Several may
// have come and gone since, but they go in their order: while this one is there, so
// is the next.
func newestLog(dir string, number uint64) bool {
	return !exists(filepath.Join(dir, badgerfile.WALName(number+1))) && exists(filepath.Join(dir, badgerfile.WALName(number)))
}

// reopen follows Badger to the newest files.
func (n *newestFiles) reopen(dir string) error {
	return errors.Join(n.mem.reopen(dir, ".mem"), n.log.reopen(dir, ".vlog"))
}

func (o *openFile) reopen(dir, ext string) error {
	o.close()
	files, err := numbered(dir, ext)
	if err != nil || len(files) == 0 {
		return err
	}
	f := files[len(files)-1]
	if o.f, err = os.OpenFile(f.path, os.O_RDWR, 0); err != nil {
		o.f = nil
		return err
	}
	o.numberedFile = f
	return nil
}

// close closes the file, through which nothing was written.
func (o *openFile) close() {
	if o.f != nil {
		_ = o.f.Close()
		o.f = nil
	}
}

func (n *newestFiles) close() {
	n.log.close()
	n.mem.close()
}

// Sync implements kv.Store.
func (s *Store) Sync() error {
	s.syncs.Add(1)
	s.redo.promise(s.redo.ring.End())
	return s.advance()
}

// failed notes an error after which it is not known what is on disk, and returns
// it as one that wraps shardlog.ErrStorage.
func (s *Store) failed(err error) error {
	s.log.fail(err.Error())
	if s.redo != nil {
		s.redo.ring.Fail(err)
	}
	return fmt.Errorf("%w: %v", shardlog.ErrStorage, err)
}
