//go:build !linux

package redo

import "os"

// file is not mapped: it is not certain everywhere that a sync of the file makes
// durable what was written to a mapping.
type file struct{ *os.File }

// OpenFile opens or creates the file of a ring.
func OpenFile(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// Size implements File.
func (f file) Size() (int64, error) { return fileSize(f.File) }

// Map implements File.
func (f file) Map(int64) ([]byte, error) { return nil, ErrNotMapped }

// Allocate implements File.
func (f file) Allocate(int64) error { return ErrNotMapped }

// Unmap implements File.
func (f file) Unmap([]byte) error { return nil }
