package redo

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// file writes past the page cache where the file system lets it: a frame is not
// read again, and what is not in the cache need not be found there by a sync.
type file struct {
	*os.File // for reading, and for writing where direct is nil
	direct   *os.File
}

// OpenFile opens or creates the file of a ring.
func OpenFile(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	d, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return &file{File: f}, nil // such as tmpfs
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{f, d}, nil
}

// WriteAt implements File.
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	if f.direct != nil {
		n, err := f.direct.WriteAt(b, at)
		if !errors.Is(err, unix.EINVAL) {
			return n, err
		}
		// The disk wants larger units.
	}
	return f.File.WriteAt(b, at)
}

// Sync implements File.
func (f *file) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

// Map implements File. The kernel notes which pages are written to through a mapping, in
// the same place as those that are written by a call, so that Sync reaches them. A file
// that was copied or restored may have holes; where the file system cannot fill them
// beforehand (or copies pages when they are written to), a full disk is met as it is with
// Badger's files: nothing is written when it is nearly full.
func (f *file) Map(n int64) ([]byte, error) {
	if err := f.Allocate(n); err != nil && !errors.Is(err, ErrNotMapped) {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// Allocate implements File.
func (f *file) Allocate(to int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, to)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return ErrNotMapped
		default:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
}

// Unmap implements File.
func (f *file) Unmap(b []byte) error { return unix.Munmap(b) }

// Size implements File.
func (f *file) Size() (int64, error) { return fileSize(f.File) }

// Close implements File.
func (f *file) Close() error {
	if f.direct == nil {
		return f.File.Close()
	}
	return errors.Join(f.direct.Close(), f.File.Close())
}
