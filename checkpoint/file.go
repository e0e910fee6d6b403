package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
)

// File is a Store in a directory of one host, for several processes: a file
// for each row, which is replaced as a whole, and a lock that the processes
// take in turn. What was written is synced before a call returns, so it
// survives a crash of the machine. Make one with OpenFile.
//
// The directory has to be on a local disk: locks of network file systems are
// not reliable.
type File struct {
	dir  string
	opts FileOptions
	// turn has a token; the goroutine that has it may take the lock file, which
	// excludes other processes but not other goroutines.
	turn chan struct{}
}

// FileOptions say how a File works. The zero value of a field means its
// default.
type FileOptions struct {
	// NoSync leaves it to the system when rows get to the disk: they survive
	// the end of the process, but not that of the machine. Defaults to syncing
	// each write.
	NoSync bool
}

var _ Store = (*File)(nil)

// lockPause is how often a lock that another process has is tried again.
const lockPause = 2 * time.Millisecond

// OpenFile returns the store in dir, which is made if it is not there. There
// may be several in a process and in many. Opts may be nil. It holds no
// resources, so there is nothing to close.
func OpenFile(dir string, opts *FileOptions) (*File, error) {
	if dir == "" {
		return nil, &shardlog.InvalidError{Field: "Dir", Value: dir, Limit: "the name of a directory"}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("checkpoint: open file store: %w", err)
	}
	s := &File{dir: dir, turn: make(chan struct{}, 1)}
	if opts != nil {
		s.opts = *opts
	}
	s.turn <- struct{}{}
	return s, nil
}

// folder is where the rows of a group, or of a stream in it, are. Names are
// hashed: they may have any character and be longer than a file name.
func (s *File) folder(group string, stream ...string) string {
	path := filepath.Join(s.dir, hashName(group))
	for _, st := range stream {
		path = filepath.Join(path, hashName(st))
	}
	return path
}

func hashName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

func (s *File) path(k Key) string {
	return filepath.Join(s.folder(k.Group, k.Stream), hashName(k.Shard)+".row")
}

// withLock calls f while no other process or goroutine is in it.
func (s *File) withLock(ctx context.Context, f func() error) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	}
	defer func() { s.turn <- struct{}{} }()
	for {
		if err := shardlog.ContextError(ctx); err != nil {
			return err
		}
		unlock, err := lockFile(filepath.Join(s.dir, "lock"))
		if err == nil {
			return errors.Join(f(), unlock())
		}
		if !errors.Is(err, errLocked) {
			return fmt.Errorf("%w: lock: %w", ErrUnavailable, err)
		}
		t := time.NewTimer(lockPause)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// errLocked: another process has the lock.
var errLocked = errors.New("locked")

// read returns the row in a file.
func (s *File) read(path string) (StoredRow, error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return StoredRow{}, nil
	case err != nil:
		return StoredRow{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r, err := DecodeStored(b)
	if err != nil {
		err = fmt.Errorf("file %s: %w", filepath.Base(path), err)
	}
	return r, err
}

// replace gives a file new contents so that it has, after any crash, either
// the old ones or the new.
func (s *File) replace(path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}()
	dir := filepath.Dir(path)
	made := false
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		made = true
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(dir, "tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing once it has its name
	_, err = f.Write(data)
	if err == nil && !s.opts.NoSync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil || s.opts.NoSync {
		return err
	}
	if err := syncDir(dir); err != nil || !made {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(dir)), syncDir(s.dir))
}

func syncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil // it does not sync directories
	}
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write runs a compare-and-set: decide gets the stored row and returns what to
// store.
func (s *File) write(ctx context.Context, op string, k Key, decide func(StoredRow) ([]byte, error)) error {
	err := firstError(ctx, k.Validate)
	if err == nil {
		err = s.withLock(ctx, func() error {
			path := s.path(k)
			r, err := s.read(path)
			if err != nil {
				return err
			}
			value, err := decide(r)
			if err != nil {
				return err
			}
			return s.replace(path, value)
		})
	}
	if err != nil {
		return rowError(op, k, err)
	}
	return nil
}

// Create implements Store.
func (s *File) Create(ctx context.Context, l Lease) (Lease, error) {
	l = l.Clone()
	if err := s.write(ctx, "create", l.Key, func(r StoredRow) ([]byte, error) { return r.Create(&l) }); err != nil {
		return Lease{}, err
	}
	return l, nil
}

// Update implements Store.
func (s *File) Update(ctx context.Context, l Lease) (Lease, error) {
	l = l.Clone()
	if err := s.write(ctx, "update", l.Key, func(r StoredRow) ([]byte, error) { return r.Update(&l) }); err != nil {
		return Lease{}, err
	}
	return l, nil
}

// Delete implements Store.
func (s *File) Delete(ctx context.Context, l Lease) error {
	return s.write(ctx, "delete", l.Key, func(r StoredRow) ([]byte, error) { return r.Delete(&l) })
}

// Get implements Store. It takes no lock: a file is always whole.
func (s *File) Get(ctx context.Context, k Key) (Lease, error) {
	err := firstError(ctx, k.Validate)
	var r StoredRow
	if err == nil {
		if r, err = s.read(s.path(k)); err == nil && !r.Live {
			err = shardlog.ErrNotFound
		}
	}
	if err != nil {
		return Lease{}, rowError("get", k, err)
	}
	return r.Lease, nil
}

// List implements Store.
func (s *File) List(ctx context.Context, group, stream string) ([]Lease, error) {
	folder := s.folder(group)
	if stream != "" {
		folder = s.folder(group, stream)
	}
	var out []Lease
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if e := shardlog.ContextError(ctx); e != nil {
			return e
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was written yet, or a temporary file is gone
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if d.IsDir() || !strings.HasSuffix(path, ".row") {
			return nil
		}
		r, err := s.read(path)
		if err == nil && r.Live {
			out = append(out, r.Lease)
		}
		return err
	})
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return nil, rowError("list", Key{Group: group, Stream: stream}, err)
	}
	slices.SortFunc(out, func(a, b Lease) int { return a.Key.Compare(b.Key) })
	return out, nil
}
