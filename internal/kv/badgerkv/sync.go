package badgerkv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Without SyncWrites, Badger's Sync makes only the newest value log file and
// the newest memtable durable. What it filled before was not synced when it
// was full, and nothing that Badger does later syncs it.

// syncFilled makes the files durable that Badger's Sync leaves out. A memtable
// whose file is gone is in a table, which Badger has synced.
func (s *Store) syncFilled() error {
	logs, err := filepath.Glob(filepath.Join(s.opts.Dir, "*.vlog")) // sorted, and so by number
	if err != nil {
		return err
	}
	mems, err := filepath.Glob(filepath.Join(s.opts.Dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, name := range append(logs, mems...) {
		if filepath.Ext(name) == ".vlog" && name < s.filled {
			continue // synced before, when it was no longer written to
		}
		if err := s.syncFile(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if n := len(logs); n > 0 {
		s.filled = logs[n-1]
	}
	return nil
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
