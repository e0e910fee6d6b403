package kvtest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Killed returns a copy of the directory of an open store, as a process that is
// killed now leaves it. Nobody may commit meanwhile. Badger itself may flush a
// memtable or compact tables: while that changes what there is, Killed copies
// again, because the files of a copy have to be of one moment.
func Killed(t testing.TB, dir string) (to string) {
	t.Helper()
	for {
		to = filepath.Join(t.TempDir(), "killed")
		before, err := contents(dir)
		if err == nil {
			err = os.CopyFS(to, os.DirFS(dir))
		}
		after, again := contents(dir)
		err = errors.Join(err, again)
		if err == nil && slices.EqualFunc(before, after, bytes.Equal) {
			_ = os.Remove(filepath.Join(to, "LOCK"))
			return to
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err) // not the end of this goroutine, which may be the store's
			return to
		}
	}
}

// contents returns the names of a directory's files and what its manifest says,
// which changes after the files that it adds and before those that it removes.
func contents(dir string) (all [][]byte, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		all = append(all, []byte(e.Name()))
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return append(all, manifest), err
}
