package redo

import "os"

// readOnly is a file that is not written to.
type readOnly struct{ *os.File }

// OpenReadOnly opens the file of a ring for Read alone.
func OpenReadOnly(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return readOnly{f}, nil
}

// Map implements File.
func (f readOnly) Map(int64) ([]byte, error) { return nil, ErrNotMapped }

// Allocate implements File.
func (f readOnly) Allocate(int64) error { return ErrNotMapped }

// Unmap implements File.
func (f readOnly) Unmap([]byte) error { return nil }

// Size implements File.
func (f readOnly) Size() (int64, error) { return fileSize(f.File) }

// fileSize returns the size of a file.
func fileSize(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
