//go:build !linux

package redo

import "os"

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
func (f file) Size() (int64, error) { return size(f.File) }
