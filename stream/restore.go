package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
)

// Restore makes a database in dir from a backup. Dir must not exist, or be
// empty; it may be a mount point or a link to a directory, nothing is written
// outside of it, and the lost+found of a file system does not count. Opts are
// those that the database will be opened with; only the encryption key and the
// file size matter. Restore blocks until the database is on disk. Nothing is
// left in dir if it fails; if the process is killed, Open refuses dir until
// another Restore into it, which starts over. The error matches
// shardlog.ErrExists if dir is not empty, ErrLocked if another Restore is at
// work there, ErrCorrupt if the backup is damaged or cut short, and ErrVersion
// if a newer version wrote it.
//
// Sequence numbers continue far above those in the backup, so none is given out
// again that the database had given out after it.
func Restore(ctx context.Context, dir string, r io.Reader, opts *Options) error {
	if err := restore(ctx, dir, r, opts); err != nil {
		return &shardlog.Error{Op: "restore", Err: err}
	}
	return nil
}

func restore(ctx context.Context, dir string, r io.Reader, opts *Options) error {
	if ctx == nil {
		return &shardlog.InvalidError{Field: "ctx", Value: nil, Limit: "not nil"}
	}
	if r == nil {
		return &shardlog.InvalidError{Field: "r", Value: nil, Limit: "not nil"}
	}
	o, err := opts.withDefaults(dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if o.InMemory {
		return &shardlog.InvalidError{Field: "Options.InMemory", Value: true, Limit: "false for Restore"}
	}
	p := restorePlace{dir: dir}
	if err = p.prepare(); err == nil {
		err = restoreInto(ctx, dir, r, o)
	}
	if err != nil {
		return errors.Join(err, p.clear(), p.end())
	}
	return errors.Join(p.finish(), p.end())
}

// restoreInto fills a directory that was prepared.
func restoreInto(ctx context.Context, dir string, r io.Reader, o Options) error {
	store, err := badgerkv.Open(badgerkv.Options{
		// No batch is synced by itself: everything is, before the database can
		// be opened.
		Dir: dir, ValueLogFile: o.ValueLogFileBytes, EncryptionKey: o.EncryptionKey, MinFree: o.MinFreeBytes, Logger: o.Logger,
		Restoring: true,
	})
	if err != nil {
		return err
	}
	err = readBackup(ctx, bufio.NewReaderSize(r, 1<<20), store)
	if err == nil {
		err = store.Sync()
	}
	return errors.Join(err, store.Close())
}

// restorePlace is a directory that a database is restored into. A file in it
// says that it is incomplete, so that a restore that is killed leaves nothing
// that opens, and the next one knows what it may remove.
type restorePlace struct {
	dir     string
	created []string // directories, the outermost first
	marked  bool     // the files in it are ours
	// unlock ends the lock of the marker, which one Restore has from prepare to
	// its end. The lock of the directory is the store's while that is open.
	unlock func() error
}

// prepare makes the directory, empties it of what an earlier restore left, and
// marks it.
func (p *restorePlace) prepare() error {
	if err := p.mkdirAll(p.dir); err != nil {
		return err
	}
	if err := p.empty(); err != nil {
		return err
	}
	unlock, err := p.lock(p.dir)
	if err != nil {
		return err
	}
	return errors.Join(p.mark(), unlock())
}

// lock takes the lock of the directory or of the marker. Both were there just now:
// if one is gone, another Restore has removed it.
func (p *restorePlace) lock(name string) (unlock func() error, err error) {
	unlock, err = badgerkv.Lock(name)
	if errors.Is(err, os.ErrNotExist) {
		err = p.lockedBefore()
	}
	return unlock, err
}

func (p *restorePlace) lockedBefore() error {
	return fmt.Errorf("%w: %s: another Restore has just ended", shardlog.ErrLocked, p.dir)
}

// end lets another Restore into the directory. The marker is removed by then.
func (p *restorePlace) end() error {
	if p.unlock == nil {
		return nil
	}
	return p.unlock()
}

// mkdirAll is os.MkdirAll, and remembers the directories that it made.
func (p *restorePlace) mkdirAll(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := p.mkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	p.created = append(p.created, dir)
	return nil
}

// empty returns an error that matches shardlog.ErrExists if the directory has
// anything that an earlier restore did not leave.
func (p *restorePlace) empty() error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	marked := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == badgerkv.RestoreMarker })
	for _, e := range entries {
		if e.Name() != "lost+found" && e.Name() != badgerkv.RestoreMarker && !(marked && badgerkv.OwnFile(e.Name())) {
			return fmt.Errorf("%w: %s is not empty", shardlog.ErrExists, p.dir)
		}
	}
	return nil
}

// mark makes the marker and takes its lock, and removes what a restore that was
// killed has left. The caller has the lock of the directory, so that nobody else
// makes a marker; one that is at its end may remove its own.
func (p *restorePlace) mark() error {
	marker := filepath.Join(p.dir, badgerkv.RestoreMarker)
	_, err := os.Stat(marker)
	killed := err == nil
	if !killed {
		if err := p.empty(); err != nil {
			return err
		}
		if err := os.WriteFile(marker, []byte("A database is being restored into this directory.\n"), 0o644); err != nil {
			return errors.Join(err, os.RemoveAll(marker))
		}
	}
	unlock, err := p.lock(marker)
	if err != nil {
		return err
	}
	if _, err := os.Stat(marker); err != nil {
		return errors.Join(p.lockedBefore(), unlock())
	}
	p.unlock, p.marked = unlock, true
	if killed {
		if err := p.empty(); err != nil {
			p.marked = false // not all of it is ours
			return err
		}
		if err := p.removeFiles(); err != nil {
			return err
		}
	}
	return syncDir(p.dir)
}

// removeFiles removes the files of a database, but for the marker.
func (p *restorePlace) removeFiles() error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() && badgerkv.OwnFile(e.Name()) {
			errs = append(errs, os.Remove(filepath.Join(p.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// clear removes everything that the restore has made. The marker goes last.
func (p *restorePlace) clear() error {
	if p.marked {
		if err := p.removeFiles(); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(p.dir, badgerkv.RestoreMarker)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range slices.Backward(p.created) {
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}

// finish removes the marker once the files and their names are on disk.
func (p *restorePlace) finish() error {
	if err := syncDir(p.dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(p.dir, badgerkv.RestoreMarker)); err != nil {
		return err
	}
	if err := syncDir(p.dir); err != nil {
		return err
	}
	for _, dir := range p.created {
		if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// syncDir makes names in a directory durable, where directories can be synced.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
