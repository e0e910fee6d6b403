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
	"github.com/shardlog/shardlog/internal/kv"
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
	s, err := begin(o)
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
		_, err := s.redo.ring.Append(s.ts.Load()+1, b)
		require.NoError(t, err)
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
		s, err = begin(o)
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

// A redo log that a process has left which was killed before it noted whose it is, is
// replaced. Nothing was in it. The name of the file is durable before that note.
func TestAnOwnerlessRedoLogGoes(t *testing.T) {
	for _, sync := range []bool{true, false} {
		o := small(t.TempDir())
		o.SyncWrites = sync
		d := System()
		failure := errors.New("input/output error")
		d.SyncDir = func(dir string) error {
			if exists(filepath.Join(dir, badgerfile.RedoName)) {
				return failure
			}
			return syncDir(dir)
		}
		o.Disk = d
		_, err := begin(o)
		require.ErrorIs(t, err, failure)
		path := filepath.Join(o.Dir, badgerfile.RedoName)
		left, err := os.ReadFile(path)
		require.NoError(t, err)

		o.Disk = nil
		s := open(t, o)
		id := s.redo.id.id
		require.NotContains(t, string(left), string(id[:]), "the store has no note of that one")
		require.NoError(t, set(s, "a", []byte("1")))
		require.NoError(t, s.Close())
		s = open(t, o)
		require.Equal(t, id, s.redo.id.id)
		requireValue(t, s, "a", []byte("1"))
	}
}

// A redo log that nobody owns, because a process was killed before it noted whose it is, is
// replaced.
func TestAnOwnerlessRedoLogIsReplaced(t *testing.T) {
	o := small(t.TempDir())
	s, err := begin(o)
	require.NoError(t, err)
	require.NoError(t, set(s, "a", []byte("1")))
	var b kv.Batch
	b.Delete(redoKey)
	require.NoError(t, s.Commit(&b))
	require.NoError(t, s.Close())
	path := filepath.Join(o.Dir, badgerfile.RedoName)
	other := redo.ID{1}
	r, err := redo.Create(redo.Options{Path: path, ID: other})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, os.Remove(filepath.Join(o.Dir, badgerfile.InventoryName)))
	s = open(t, o)
	requireValue(t, s, "a", []byte("1"))
	i, ring, err := s.findRedo()
	require.NoError(t, err)
	require.NotEqual(t, other, i.id)
	require.NoError(t, ring.Close())
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
	_, err := begin(o)
	require.ErrorIs(t, err, shardlog.ErrNoSpace)
	left, err := filepath.Glob(filepath.Join(o.Dir, badgerfile.RedoName+"*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// fullFile is on a disk that is full.
type fullFile struct{ redo.File }

func (fullFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }

// A batch with an entry goes to the redo log with the key that notes its entry. It is not
// sent there if that alone no longer fits.
func TestABatchThatFitsButForTheKeyOfItsEntry(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites, o.RedoMax = true, redo.MinSize
	s := open(t, o)
	s.redo.advancing.Lock() // nobody makes room meanwhile
	free := func() int64 {
		used, size := s.redo.ring.Use()
		return size - used
	}
	for free() > 2*redo.Page {
		require.NoError(t, set(s, "a", make([]byte, 3000)))
	}
	b := batchOf("b", "")
	b.Entry = []byte("entry")
	for n := redo.Page; s.redo.ring.Fits(b); n++ { // the largest that fits
		b.Truncate(0)
		b.Set([]byte("b"), make([]byte, n))
	}
	n := len(b.Ops[0].Value) - 1
	b.Truncate(0)
	b.Set([]byte("b"), make([]byte, n))
	require.True(t, s.redo.ring.Fits(b))
	done := make(chan error, 1)
	go func() { done <- s.Commit(b) }()
	s.redo.advancing.Unlock() // it may wait for room
	require.NoError(t, <-done)
	requireValue(t, s, "b", make([]byte, n))
}
