package badgerkv

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// requireAllocated fails if a part of a file has no blocks on the disk. What the
// file system calls a hole may be allocated, so the blocks are counted.
func requireAllocated(t *testing.T, path string, n int64) {
	t.Helper()
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.GreaterOrEqual(t, allocated(fi), n, "%s", path)
}

// What a commit writes to has blocks before Badger writes to it, in each file,
// across the files and memtables that follow each other.
func TestBlocksAreAllocatedAheadOfTheWriter(t *testing.T) {
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprintf("sync=%v", sync), func(t *testing.T) {
			o := small(t.TempDir())
			o.SyncWrites, o.ValueLogFile = sync, 4<<20
			s := open(t, o)
			s.pager.close() // which does the same, some time later
			s.pager = nil
			files, memtables := map[uint64]bool{}, map[uint64]bool{}
			for i := range 1500 {
				var b kv.Batch
				b.Set(fmt.Append(nil, "large", i), bytes.Repeat([]byte("v"), 16<<10))
				for j := range 10 {
					b.Set(fmt.Append(nil, "inline", i, j), bytes.Repeat([]byte("v"), 500))
				}
				before := s.blocks.file
				require.NoError(t, s.Commit(&b))
				p := placeOf(t, s, fmt.Sprint("large", i))
				// A file that became full is cut where it ends.
				if uint64(p.File) == before && !exists(valuePath(o.Dir, before+1)) {
					end := int64(p.Start + p.Size)
					require.GreaterOrEqual(t, s.blocks.end, end)
					require.GreaterOrEqual(t, s.blocks.at, end)
					requireAllocated(t, s.path(badgerfile.ValueName(s.blocks.file)), s.blocks.end)
					files[s.blocks.file] = true
				}
				// One that is full becomes a table, and goes.
				if !exists(s.path(badgerfile.WALName(s.blocks.wal + 1))) {
					requireAllocated(t, s.path(badgerfile.WALName(s.blocks.wal)), walRoom)
					memtables[s.blocks.wal] = true
				}
			}
			require.Greater(t, len(files), 4)
			require.Greater(t, len(memtables), 4)
		})
	}
}

// Nothing is allocated behind the size at which a file is full but what a commit
// needs: Badger would give it back while a writer waits.
func TestNothingIsAllocatedBehindAFullFile(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites, o.ValueLogFile = true, 18<<20 // a step begins near the end
	s := open(t, o)
	const size = 64 << 10
	for i := 0; !exists(valuePath(o.Dir, 2)); i++ {
		fi, err := os.Stat(valuePath(o.Dir, 1))
		require.NoError(t, err)
		require.LessOrEqual(t, allocated(fi), o.ValueLogFile+2*size)
		require.NoError(t, set(s, fmt.Sprint("k", i), make([]byte, size)))
	}
}

// A disk that another program fills is an error of the commit, and heals.
func TestADiskThatFillsUpIsAnErrorOfTheCommit(t *testing.T) {
	r := newReserve(Options{Dir: t.TempDir(), ValueLogFile: 1 << 20}, nil)
	for _, err := range []error{unix.ENOSPC, unix.EDQUOT} {
		err := r.failed(&os.PathError{Op: "fallocate", Err: err})
		require.ErrorIs(t, err, shardlog.ErrNoSpace)
		require.True(t, shardlog.Retryable(err))
		require.False(t, r.off)
	}
	require.NoError(t, r.failed(unix.EOPNOTSUPP))
	require.True(t, r.off, "a file system that cannot allocate is not asked again")
}

// Compactions wait while there is no room for a table, and Close does not
// wait for them without end.
func TestCompactionsWaitForRoom(t *testing.T) {
	d := &disk{free: 1 << 40}
	o := small(t.TempDir())
	o.MinFree, o.FreeSpace = 8<<20, d.freeSpace
	s, err := begin(o)
	require.NoError(t, err)
	d.set(1 << 20)
	passed := make(chan struct{})
	go func() {
		s.log.Debugf("[%d] LOG Compact. Added %d keys. Skipped %d keys. Iteration took: %v", 0, 1, 2, 3)
		close(passed)
	}()
	require.Eventually(t, s.log.gate.shut, time.Minute, time.Millisecond)
	held, stop := s.heldUp()
	<-held
	stop()
	d.set(1 << 40)
	<-passed
	require.False(t, s.log.gate.shut())
	require.NoError(t, s.Close())
}

// Badger calls its logger before it makes a table of a compaction, with the text
// that the gate waits for: no table gets below the first level without room.
func TestBadgerLogsBeforeItMakesATable(t *testing.T) {
	var room atomic.Bool
	o := small(t.TempDir())
	o.FreeSpace = func(string) (int64, error) {
		if !room.Load() && calledBy("(*gate).pass") {
			return 0, nil
		}
		return 1 << 40, nil
	}
	s := open(t, o)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { // it may have to wait for the compaction that waits
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			var b kv.Batch
			b.Set(fmt.Append(nil, i), bytes.Repeat([]byte("v"), 900))
			if err := s.Commit(&b); err != nil {
				t.Error(err)
				return
			}
		}
	})
	require.Eventually(t, s.log.gate.shut, time.Minute, time.Millisecond)
	room.Store(true)
	close(stop)
	writer.Wait()
	require.Eventually(t, func() bool { return !s.log.gate.shut() }, time.Minute, time.Millisecond)
}

// calledBy reports whether a function whose name ends so is on the stack.
func calledBy(name string) bool {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for more := true; more; {
		var f runtime.Frame
		if f, more = frames.Next(); strings.HasSuffix(f.Function, name) {
			return true
		}
	}
	return false
}
