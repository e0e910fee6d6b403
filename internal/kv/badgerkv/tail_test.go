package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// killedAfter returns a directory as a process leaves it that is killed after it
// has written values, and the values.
func killedAfter(t testing.TB, o Options, values, size int) (dir string, want map[string][]byte) {
	t.Helper()
	s := open(t, o)
	rnd := rand.New(rand.NewSource(1))
	want = map[string][]byte{}
	for i := range values {
		k := fmt.Sprintf("k%05d", i)
		want[k] = value(rnd, size)
		require.NoError(t, set(s, k, want[k]))
	}
	return killed(t, o.Dir), want
}

// killed copies the directory of an open store, which nothing is written to now,
// so that the copy is what a kill would leave. What Badger does in the background
// may change files meanwhile; then it copies again.
func killed(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "killed")
	for {
		before := listing(t, dir)
		require.NoError(t, os.RemoveAll(to))
		require.NoError(t, os.Mkdir(to, 0o755))
		for name := range before {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			require.NoError(t, err)
			// What was never written is a hole, as in the original.
			path := filepath.Join(to, name)
			require.NoError(t, os.WriteFile(path, bytes.TrimRight(b, "\x00"), 0o644))
			require.NoError(t, os.Truncate(path, int64(len(b))))
		}
		if maps.Equal(before, listing(t, dir)) {
			return to
		}
	}
}

// listing returns the sizes of the files of a directory. The manifest becomes
// longer with each table that comes or goes.
func listing(t testing.TB, dir string) map[string]int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	sizes := map[string]int64{}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		sizes[e.Name()] = fi.Size()
	}
	return sizes
}

// logSizes returns the sizes of the value log files, by number.
func logSizes(t testing.TB, dir string) (sizes []int64) {
	t.Helper()
	logs, err := numbered(dir, ".vlog")
	require.NoError(t, err)
	for _, f := range logs {
		fi, err := os.Stat(f.path)
		require.NoError(t, err)
		sizes = append(sizes, fi.Size())
	}
	return sizes
}

func requireValues(t testing.TB, o Options, want map[string][]byte) {
	t.Helper()
	s, err := begin(o)
	require.NoError(t, err)
	for k, v := range want {
		requireValue(t, s, k, v)
	}
	require.NoError(t, s.Close())
}

// After a kill a large newest file of the value log is cut to what was written,
// and Badger gets an empty one to look for the end of. The next Open removes that.
func TestALargeNewestFileIsNotReadAtOpen(t *testing.T) {
	for _, key := range [][]byte{nil, []byte("0123456789abcdef")} {
		o := small(t.TempDir())
		o.ValueLogFile, o.EncryptionKey = 8<<20, key
		dir, want := killedAfter(t, o, 40, 64<<10)
		o.Dir = dir
		require.Len(t, logSizes(t, dir), 1)

		s, err := begin(o)
		require.NoError(t, err)
		sizes := logSizes(t, dir)
		require.Len(t, sizes, 3, "the file, the empty one, and what is written to now")
		n, whole, err := badgerfile.CountEntries(valuePath(dir, 1))
		require.NoError(t, err)
		require.True(t, whole, "it ends with an entry")
		require.Equal(t, 40, n)
		require.Less(t, sizes[0], int64(41*64<<10))
		require.EqualValues(t, badgerfile.LogHeader, sizes[1])
		for k, v := range want {
			requireValue(t, s, k, v)
		}
		require.NoError(t, s.Close())

		requireValues(t, o, want)
		require.NoFileExists(t, valuePath(dir, 2))
	}
}

// A process may be killed between any two of the steps.
func TestAKillWhileTheNewestFileIsPutAside(t *testing.T) {
	o := small(t.TempDir())
	o.ValueLogFile = 8 << 20
	src, want := killedAfter(t, o, 40, 64<<10)
	steps := []func(dir string, r *badgerfile.Report){
		func(dir string, r *badgerfile.Report) {
			require.NoError(t, os.Truncate(valuePath(dir, 1), r.Trim.Size))
		},
		func(dir string, r *badgerfile.Report) { // the file is made, and not written to
			require.NoError(t, os.WriteFile(valuePath(dir, r.Guard), nil, 0o644))
		},
		func(dir string, r *badgerfile.Report) {
			require.NoError(t, os.WriteFile(valuePath(dir, r.Guard), make([]byte, badgerfile.LogHeader), 0o644))
		},
		func(dir string, r *badgerfile.Report) { // Badger makes its own behind it
			require.NoError(t, os.WriteFile(valuePath(dir, r.Guard+1), nil, 0o644))
		},
	}
	for n := range len(steps) + 1 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			o := o
			o.Dir = killed(t, src)
			r, err := badgerfile.Inspect(o.Dir, nil, false, 0)
			require.NoError(t, err)
			require.NoError(t, r.Err())
			require.Empty(t, r.Warnings)
			require.EqualValues(t, 2, r.Guard)
			for _, step := range steps[:n] {
				step(o.Dir, r)
			}
			requireValues(t, o, want)
			requireValues(t, o, want)
			for _, size := range logSizes(t, o.Dir) {
				require.Less(t, size, int64(41*64<<10))
			}
		})
	}
}

// What a kill leaves of a file that was never written to goes at the next open,
// so that many kills leave no more files than one.
func TestManyKillsLeaveFewFiles(t *testing.T) {
	o := small(t.TempDir())
	o.ValueLogFile = 8 << 20
	dir, want := killedAfter(t, o, 40, 64<<10)
	for range 10 {
		o.Dir = dir
		s, err := begin(o)
		require.NoError(t, err)
		dir = killed(t, dir)
		require.NoError(t, s.Close())
		require.LessOrEqual(t, len(logSizes(t, dir)), 3)
	}
	o.Dir = dir
	requireValues(t, o, want)
}

// What is damaged in a large newest file is found when it is read, and does not
// take what is behind it away.
func TestDamageInALargeNewestFileHidesNothing(t *testing.T) {
	o := small(t.TempDir())
	o.ValueLogFile = 8 << 20
	dir, want := killedAfter(t, o, 40, 64<<10)
	o.Dir = dir
	f, err := os.OpenFile(valuePath(dir, 1), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("damage"), 20*64<<10)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	s := open(t, o)
	whole := 0
	for k, v := range want {
		if got, err := s.Get([]byte(k)); err == nil && string(got) == string(v) {
			whole++
		}
	}
	require.Equal(t, len(want)-1, whole)
}

// A value that is not all there, at the end of the newest file, is a warning, and
// nothing in front of it is cut off.
func TestTheLastValueOfALargeNewestFileIsMissing(t *testing.T) {
	o := small(t.TempDir())
	o.ValueLogFile = 8 << 20
	dir, want := killedAfter(t, o, 40, 64<<10)
	o.Dir = dir
	r, err := badgerfile.Inspect(dir, nil, false, 0)
	require.NoError(t, err)
	for what, damage := range map[string]func(path string) error{
		"cut": func(path string) error { return os.Truncate(path, r.Trim.Size-10) },
		"zeroed": func(path string) error {
			return errors.Join(os.Truncate(path, r.Trim.Size-64<<10), os.Truncate(path, 16<<20))
		},
	} {
		t.Run(what, func(t *testing.T) {
			o := o
			o.Dir = killed(t, dir)
			require.NoError(t, damage(valuePath(o.Dir, 1)))
			r, err := badgerfile.Inspect(o.Dir, nil, false, 0)
			require.NoError(t, err)
			require.Len(t, r.Warnings, 1)
			s := open(t, o)
			for k, v := range want {
				if k != "k00039" {
					requireValue(t, s, k, v)
				}
			}
		})
	}
}

// The place of a value is in a table, and in no write-ahead log, after a close,
// and after a memtable was flushed.
func TestTheEndIsFoundThroughATable(t *testing.T) {
	o := small(t.TempDir())
	o.ValueLogFile = 8 << 20
	s, err := begin(o)
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))
	want := map[string][]byte{}
	for i := range 40 {
		k := fmt.Sprintf("k%05d", i)
		want[k] = value(rnd, 64<<10)
		require.NoError(t, set(s, k, want[k]))
	}
	require.NoError(t, s.Close())
	// Damage at the beginning would be seen if the file were read from there.
	f, err := os.OpenFile(valuePath(o.Dir, 1), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("damage"), 32<<10)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	r, err := badgerfile.Inspect(o.Dir, nil, false, 0)
	require.NoError(t, err)
	require.Empty(t, r.Errors())
	require.EqualValues(t, 2, r.Guard)
	require.Nil(t, r.Trim, "a close has cut it already")
	delete(want, "k00000")
	requireValues(t, o, want)
}
