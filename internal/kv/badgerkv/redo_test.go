package badgerkv

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// A commit that waits for room in the redo log gets an error when the store fails
// meanwhile, as it does when Badger reports a failure: nothing makes room
// any more.
func TestAWaitForRoomEndsWhenTheStoreFails(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites, o.RedoMax = true, redo.MinSize
	var asked func()
	o.FreeSpace = func(string) (int64, error) {
		if asked != nil {
			asked()
		}
		return 1 << 40, nil
	}
	s, err := Open(o)
	require.NoError(t, err)
	s.redo.advancing.Lock()
	v := make([]byte, 7<<10)
	for i := 0; ; i++ {
		used, size := s.redo.ring.Use()
		if size-used < 8<<10 {
			break
		}
		require.NoError(t, set(s, "a", v))
	}
	b := batchOf("b", string(v))
	b.Small = true // the free space is asked for
	asked = func() {
		asked = nil
		s.log.Errorf("a sync has failed")
		s.redo.advancing.Unlock()
	}
	require.ErrorIs(t, s.Commit(b), shardlog.ErrStorage)
	require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
}

// Recovery verifies what large batches have written since the redo log was advanced,
// so it is advanced for them, too.
func TestLargeBatchesAdvanceTheRedoLog(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites = true
	s := open(t, o)
	s.redo.most = 100 << 10
	before := s.redo.ring.Mark()
	for range 6 {
		bypass(t, s, batchOf("a", string(large('1'))))
	}
	require.Eventually(t, func() bool { return s.redo.ring.Mark().Base > before.Base }, time.Minute, time.Millisecond)
}

// openFiles returns how many files of a directory this process has open.
func openFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && filepath.Dir(name) == dir {
			names = append(names, name)
		}
	}
	return names
}

// An Open that fails leaves no file open, wherever it failed.
func TestAFailedOpenClosesItsFiles(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return // another system
	}
	failure := errors.New("a failure of the disk")
	for n := 1; ; n++ {
		o := small(t.TempDir())
		o.SyncWrites = true
		s := open(t, o)
		require.NoError(t, set(s, "a", large('1')))
		b := batchOf("b", string(large('2')))
		require.NoError(t, s.redo.ring.Room(b))
		require.NoError(t, s.redo.ring.Append(s.ts.Load()+1, b))
		o.Dir = killed(t, o.Dir)
		left := n
		fails := func() bool { left--; return left == 0 }
		d := System()
		sync, syncDir := d.Sync, d.SyncDir
		d.Sync = func(f *os.File) error {
			if fails() {
				return failure
			}
			return sync(f)
		}
		d.SyncDir = func(dir string) error {
			if fails() {
				return failure
			}
			return syncDir(dir)
		}
		o.Disk = d
		s, err := Open(o)
		if left > 0 {
			require.NoError(t, err)
			left = 0 // no failure while it is closed
			require.NoError(t, s.Close())
			require.Greater(t, n, 3)
			return
		}
		require.Error(t, err)
		require.Empty(t, openFiles(t, o.Dir), "failure %d", n)
	}
}

// A redo log that a process has left which was killed before it removed it, or
// before it noted whose it is, goes.
func TestAnOwnerlessRedoLogGoes(t *testing.T) {
	o := small(t.TempDir())
	s := open(t, o)
	require.NoError(t, set(s, "a", []byte("1")))
	require.NoError(t, s.Close())
	path := filepath.Join(o.Dir, badgerfile.RedoName)
	r, err := redo.Create(redo.Options{Path: path})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, os.Remove(filepath.Join(o.Dir, badgerfile.InventoryName)))
	s = open(t, o)
	requireValue(t, s, "a", []byte("1"))
	require.NoFileExists(t, path)
}

// A disk without room for the redo log is full, which Open says, and leaves nothing
// of it.
func TestNoRoomForARedoLog(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites = true
	d := System()
	d.OpenRedo = func(path string) (redo.File, error) {
		f, err := redo.OpenFile(path)
		return fullFile{f}, err
	}
	o.Disk = d
	_, err := Open(o)
	require.ErrorIs(t, err, shardlog.ErrNoSpace)
	left, err := filepath.Glob(filepath.Join(o.Dir, badgerfile.RedoName+"*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// fullFile is on a disk that is full.
type fullFile struct{ redo.File }

func (fullFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }
