package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// A file of no length is what an owner has just created and not sized yet.
func TestAnOpenThatIsRefusedRemovesNothing(t *testing.T) {
	o := small(t.TempDir())
	open(t, o)
	name := filepath.Join(o.Dir, "000099.vlog")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	_, err := begin(o)
	require.ErrorIs(t, err, shardlog.ErrLocked)
	require.FileExists(t, name, "an Open that was refused has removed a file of the owner")
}

func TestSyncInADirectoryWhoseNameIsAPattern(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "app[1]")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	s := open(t, small(dir))
	synced := map[string]int{}
	s.disk.Sync = func(f *os.File) error { synced[filepath.Base(f.Name())]++; return datasync(f) }
	for i := range 60 {
		require.NoError(t, set(s, fmt.Sprint(i), make([]byte, 60<<10)))
	}
	entries, _ := os.ReadDir(dir)
	n := 0
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".vlog" {
			n++
		}
	}
	require.NoError(t, s.Sync())
	require.Greater(t, n, 2)
	require.NotEmpty(t, synced, "%d value log files, none synced but the newest", n)
}

// If copies cannot be synced, the file that they are of stays.
func TestReclaimKeepsTheFileIfTheSyncFails(t *testing.T) {
	s, err := begin(small(t.TempDir()))
	require.NoError(t, err)
	const n, size = 400, 50 << 10
	var live, dead int64
	for i := range n {
		require.NoError(t, set(s, fmt.Sprintf("k%04d", i), make([]byte, size)))
	}
	require.NoError(t, s.Sync())
	for i := range n {
		if i%5 == 0 {
			live += size
			continue
		}
		dead += size
		b := smallBatch("x", 0)
		b.Delete(fmt.Appendf(nil, "k%04d", i))
		require.NoError(t, s.Commit(b))
	}
	files := func() []string {
		names, _ := filepath.Glob(filepath.Join(s.opts.Dir, "*.vlog"))
		return names
	}
	s.disk.Sync = func(*os.File) error { return errors.New("input/output error") }
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		before := files()
		_, _, err := s.Reclaim(live, dead)
		if err != nil {
			after := files()
			require.ErrorIs(t, err, shardlog.ErrStorage)
			require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
			for _, b := range before {
				require.Contains(t, after, b, "the original is gone although the copies could not be synced")
			}
			return
		}
		<-tick.C
	}
	t.Fatal("nothing moved")
}

func TestAProcessThatGoesToAnotherDirectory(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(b, "data"), 0o755))
	t.Chdir(a)
	o := small("data")
	s, err := begin(o)
	require.NoError(t, err)
	require.NoError(t, set(s, "first", make([]byte, 100<<10)))
	require.NoError(t, os.Chdir(b))
	for i := range 60 {
		require.NoError(t, set(s, fmt.Sprint(i), make([]byte, 60<<10)))
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.Chdir(a))
	s, err = begin(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	lost := 0
	for i := range 60 {
		if _, err := s.Get(fmt.Append(nil, i)); err != nil {
			lost++
		}
	}
	require.Zero(t, lost)
}

// Taking pages out of memory needs that nobody reads, but does not wait for it.
func TestAScanHoldsUpNoCommit(t *testing.T) {
	o := small(t.TempDir())
	s := open(t, o)
	for i := range 100 {
		require.NoError(t, set(s, fmt.Sprint(i), make([]byte, 400<<10)))
	}
	require.GreaterOrEqual(t, s.gc.written.Load(), int64(adviseEvery))
	in, out, scanned := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		scanned <- s.Scan(nil, func([]byte, int64) bool {
			close(in)
			<-out
			return false
		})
	}()
	<-in
	_, _, err := s.Reclaim(1<<40, 0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, s.gc.written.Load(), int64(adviseEvery), "it is tried again")
	require.NoError(t, set(s, "x", nil))
	close(out)
	require.NoError(t, <-scanned)
	_, _, err = s.Reclaim(1<<40, 0)
	require.NoError(t, err)
	require.Less(t, s.gc.written.Load(), int64(adviseEvery))
}

// A commit that is larger than what is left of a file's mapping makes Badger map
// the file elsewhere, which readers must not see.
func TestLargeCommitsUnderReaders(t *testing.T) {
	o := small(t.TempDir())
	s := open(t, o)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var key atomic.Pointer[string]
	reads := atomic.Int64{}
	for range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if k := key.Load(); k != nil {
					v, err := s.Get([]byte(*k))
					if err != nil || len(v) != 500<<10 {
						t.Error(*k, err, len(v))
						return
					}
					reads.Add(1)
				}
			}
		}()
	}
	for n := range 150 {
		k := fmt.Sprint("a", n)
		require.NoError(t, set(s, k, make([]byte, 500<<10)))
		key.Store(&k)
		b := smallBatch("x", 0)
		b.Small = false
		for i := range 14 { // 3.5 MiB, as a group of package logstore
			b.Set(fmt.Append(nil, "b", i), make([]byte, 256<<10))
		}
		require.NoError(t, s.Commit(b))
	}
	close(stop)
	wg.Wait()
	require.Positive(t, reads.Load())
}

// A memtable that is full goes with the next write, and an idle store has none.
func TestRotationFlushesTheMemtable(t *testing.T) {
	s := open(t, small(t.TempDir()))
	require.NoError(t, set(s, "a", make([]byte, 1000)))
	require.NoError(t, s.rotate())
	require.Eventually(t, func() bool { return len(s.db.Tables()) > 0 }, time.Minute, time.Millisecond)
}

// A rotation that was refused for want of space is made up for.
func TestARotationThatWasRefused(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprint(refuse), func(t *testing.T) {
			const reserve = 20 << 20
			d := &disk{free: 1 << 40}
			o := small(t.TempDir())
			o.MinFree, o.FreeSpace = reserve, d.freeSpace
			s := open(t, o)
			for i := range 40 {
				require.NoError(t, set(s, fmt.Sprint(i), make([]byte, 500<<10)))
			}
			b := smallBatch("x", 0)
			for i := range 40 {
				b.Delete(fmt.Append(nil, i))
			}
			require.NoError(t, s.Commit(b))
			dead := int64(40 * 500 << 10)
			if refuse {
				d.set(reserve/2 + 1<<20) // for a moment
				_, _, err := s.Reclaim(0, dead)
				require.ErrorIs(t, err, shardlog.ErrNoSpace)
			}
			d.set(reserve * 3 / 4) // too little for records, enough for a rotation
			s.space.expires.Store(0)
			require.ErrorIs(t, set(s, "y", make([]byte, 1000)), shardlog.ErrNoSpace)
			more := true
			if !refuse {
				d.set(1 << 40)
			}
			for n := 0; n < 100 && more; n++ {
				var err error
				more, _, err = s.Reclaim(0, dead)
				require.NoError(t, err)
				time.Sleep(200 * time.Millisecond)
			}
			require.Less(t, diskBytes(s.opts.Dir, ".vlog"), int64(5<<20))
		})
	}
}
