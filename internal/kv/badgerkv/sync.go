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
)

// Without SyncWrites, Badger's Sync makes only the newest value log file and
// the newest memtable durable. What it filled before was not synced when it
// was full, and nothing that Badger does later syncs it.

// syncFilled makes the files durable that Badger's Sync leaves out. A memtable
// whose file is gone is in a table, which Badger has synced.
func (s *Store) syncFilled() error {
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
	if n := len(logs); n > 0 {
		s.filled = logs[n-1].number
	}
	return nil
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

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Sync implements kv.Store.
func (s *Store) Sync() error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.syncs.Add(1)
	return s.syncLocked()
}

// syncLocked is Sync with syncMu held.
func (s *Store) syncLocked() error {
	var err error
	if !s.opts.SyncWrites {
		err = s.syncFilled()
	}
	if err = errors.Join(err, s.db.Sync()); err != nil {
		s.log.fail(err.Error())
		return fmt.Errorf("%w: %v", shardlog.ErrStorage, err)
	}
	return s.log.failure()
}
