package stream

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func smallBackup(t *testing.T) []byte {
	t.Helper()
	db := openMem(t)
	put(t, create(t, db, "s", Config{}), "k", "x")
	return backup(t, db)
}

func requireRestored(t *testing.T, dir string) {
	t.Helper()
	db, err := Open(dir, smallOptions())
	require.NoError(t, err)
	st, err := db.Stream(t.Context(), "s")
	require.NoError(t, err)
	infos := shards(t, st)
	require.Len(t, readAll(t, st, infos[0].ID), 1)
	require.NoError(t, db.Close())
}

// The directory may be anything that is empty: a new file system has a
// lost+found, and a link stays a link. Its parent is left alone.
func TestRestoreWritesNothingOutsideOfTheDirectory(t *testing.T) {
	data := smallBackup(t)
	t.Run("file system", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))
		before, err := os.Stat(dir)
		require.NoError(t, err)
		require.NoError(t, Restore(t.Context(), dir, bytes.NewReader(data), smallOptions()))
		after, err := os.Stat(dir)
		require.NoError(t, err)
		require.True(t, os.SameFile(before, after), "the directory is another one")
		require.DirExists(t, filepath.Join(dir, "lost+found"))
		requireRestored(t, dir)
	})
	t.Run("link", func(t *testing.T) {
		target, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
		require.NoError(t, os.Symlink(target, link))
		require.NoError(t, Restore(t.Context(), link, bytes.NewReader(data), smallOptions()))
		fi, err := os.Lstat(link)
		require.NoError(t, err)
		require.NotZero(t, fi.Mode()&os.ModeSymlink, "the link was replaced")
		requireRestored(t, target)
	})
	t.Run("parent", func(t *testing.T) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "a", "b")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		watched := &watchedReader{r: bytes.NewReader(data), look: func() {
			entries, err := os.ReadDir(filepath.Dir(dir))
			require.NoError(t, err)
			require.Len(t, entries, 1, "something was made next to the directory")
		}}
		require.NoError(t, Restore(t.Context(), dir, watched, smallOptions()))
		requireRestored(t, dir)
	})
	t.Run("new", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b")
		require.NoError(t, Restore(t.Context(), dir, bytes.NewReader(data), smallOptions()))
		requireRestored(t, dir)
	})
}

// watchedReader calls look at each read.
type watchedReader struct {
	r    io.Reader
	look func()
}

func (w *watchedReader) Read(p []byte) (int, error) {
	w.look()
	return w.r.Read(p)
}

// A restore whose process was killed leaves a directory that does not open, and
// that the next restore starts over in.
func TestRestoreAfterOneThatWasKilled(t *testing.T) {
	data := smallBackup(t)
	live, dir := filepath.Join(t.TempDir(), "live"), filepath.Join(t.TempDir(), "killed")
	stop := errors.New("stop")
	// The copy is what a kill in the middle would leave.
	_ = Restore(t.Context(), live, io.MultiReader(bytes.NewReader(data[:len(data)/2]), &watchedReader{r: failingReader{stop}, look: func() {
		require.NoError(t, os.CopyFS(dir, os.DirFS(live)))
	}}), smallOptions())
	require.NoDirExists(t, live)
	require.FileExists(t, filepath.Join(dir, "MANIFEST"))

	_, err := Open(dir, smallOptions())
	var damaged *shardlog.DamageError
	require.ErrorAs(t, err, &damaged)
	require.Contains(t, damaged.Remedy, "restore again")
	require.NoError(t, Restore(t.Context(), dir, bytes.NewReader(data), smallOptions()))
	requireRestored(t, dir)

	// What is not ours is not removed.
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "RESTORING"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600))
	require.ErrorIs(t, Restore(t.Context(), dir, bytes.NewReader(data), smallOptions()), shardlog.ErrExists)
	require.FileExists(t, filepath.Join(dir, "mine"))
}

// Between making the marker and opening the store the directory is not locked by
// the store, and again between closing it and removing the marker. Another Restore
// must not take the files for those of one that was killed.
func TestOneRestoreAtATime(t *testing.T) {
	data, dir := smallBackup(t), filepath.Join(t.TempDir(), "log")
	o, err := smallOptions().withDefaults(dir)
	require.NoError(t, err)
	other := func() {
		t.Helper()
		require.ErrorIs(t, Restore(t.Context(), dir, bytes.NewReader(data), smallOptions()), shardlog.ErrLocked)
	}
	first := restorePlace{dir: dir}
	require.NoError(t, first.prepare())
	other()
	require.NoError(t, restoreInto(t.Context(), dir, bytes.NewReader(data), o))
	other()
	require.NoError(t, first.finish())
	require.NoError(t, first.end())
	require.ErrorIs(t, Restore(t.Context(), dir, bytes.NewReader(data), smallOptions()), shardlog.ErrExists)
	requireRestored(t, dir)
}
