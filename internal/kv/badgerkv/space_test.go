package badgerkv

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func smallBatch(key string, n int) *kv.Batch {
	b := &kv.Batch{Small: true}
	b.Set([]byte(key), make([]byte, n))
	return b
}

func TestAFullDiskIsRefusedAndHeals(t *testing.T) {
	const reserve = 10 << 20
	d := &disk{free: 1 << 40}
	o := small(t.TempDir())
	o.MinFree, o.FreeSpace = reserve, d.freeSpace
	s := open(t, o)
	require.NoError(t, set(s, "a", make([]byte, 1000)))
	s.space.expires.Store(0) // as after askEvery

	d.set(reserve + 500)
	err := set(s, "b", make([]byte, 1000))
	require.ErrorIs(t, err, shardlog.ErrNoSpace, "the reserve is not touched")
	require.NotErrorIs(t, err, shardlog.ErrStorage, "it heals")
	require.True(t, shardlog.Retryable(err))
	var e *shardlog.Error
	require.ErrorAs(t, err, &e)
	require.Positive(t, e.RetryAfter)
	_, err = s.Get([]byte("b"))
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	requireValue(t, s, "a", make([]byte, 1000))

	d.set(reserve / 2)
	require.ErrorIs(t, s.Commit(smallBatch("c", 1000)), shardlog.ErrNoSpace)
	d.set(reserve/2 + 2000)
	require.NoError(t, s.Commit(smallBatch("c", 1000)), "what makes room may use half of the reserve")
	require.ErrorIs(t, set(s, "b", nil), shardlog.ErrNoSpace)

	d.set(1 << 40)
	require.NoError(t, set(s, "b", make([]byte, 1000)), "at once when there is room")
	d.err = errors.New("cannot tell")
	s.space.expires.Store(0)
	require.NoError(t, set(s, "b", nil), "a file system that cannot tell is not a full one")
	require.EqualValues(t, -1, s.Usage().FreeBytes)
}

// Many commits between two questions must not add up to more than there was.
func TestTheSpaceGuardCountsWhatIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{free: 110 << 20}
		g := newSpaceGuard(Options{MinFree: 100 << 20, FreeSpace: d.freeSpace})
		written := int64(0)
		for ; g.check(1<<20, false) == nil; written += 1 << 20 {
			d.set(110<<20 - written - 1<<20)
		}
		require.LessOrEqual(t, written, int64(10<<20))
		require.GreaterOrEqual(t, written, int64(9<<20))
		require.Less(t, d.asked, 10, "not at each commit")

		// Others fill the disk meanwhile: that is noticed soon.
		d.set(1 << 40)
		require.NoError(t, g.check(1, false))
		d.set(0)
		require.NoError(t, g.check(1, false), "the answer is still believed")
		time.Sleep(askEvery)
		synctest.Wait()
		require.ErrorIs(t, g.check(1, false), shardlog.ErrNoSpace)
	})
}

func TestAFullDiskCanBeOpenedToMakeRoom(t *testing.T) {
	const reserve = 10 << 20
	d := &disk{free: 1 << 40}
	o := small(t.TempDir())
	o.MinFree, o.FreeSpace = reserve, d.freeSpace
	s, err := begin(o)
	require.NoError(t, err)
	require.NoError(t, set(s, "a", nil))
	require.NoError(t, s.Close())
	d.set(reserve * 3 / 4)
	s = open(t, o)
	require.ErrorIs(t, set(s, "b", nil), shardlog.ErrNoSpace)
	b := kv.Batch{Small: true}
	b.Delete([]byte("a"))
	require.NoError(t, s.Commit(&b))
}

// reclaimAll calls Reclaim as the owner of a log does, until nothing more comes
// of it or the value log is within a size.
func reclaimAll(t *testing.T, s *Store, live, dead, size int64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		_, _, err := s.Reclaim(live, dead)
		require.NoError(t, err)
		if diskBytes(s.opts.Dir, ".vlog") <= size {
			return
		}
		<-tick.C // compaction is Badger's, and runs when it wants
	}
	require.Fail(t, "the value log does not shrink", "%d bytes, %d live", diskBytes(s.opts.Dir, ".vlog"), live)
}

func TestReclaimShrinksTheValueLogAndLosesNothing(t *testing.T) {
	rnd := kvtest.Rand(t)
	s := open(t, small(t.TempDir()))
	const n, size = 600, 50 << 10
	kept := map[string][]byte{}
	var dead int64
	for i := range n {
		k, v := fmt.Sprintf("k%04d", i), value(rnd, size)
		require.NoError(t, set(s, k, v))
		if i%20 == 0 {
			kept[k] = v
		}
	}
	full := diskBytes(s.opts.Dir, ".vlog")
	require.Greater(t, full, int64(n*size))
	pinned, err := s.Snapshot() // of everything
	require.NoError(t, err)
	pinned.Close()
	for i := 0; i < n; i += 20 {
		b := kv.Batch{Small: true}
		for j := i + 1; j < i+20; j++ {
			b.Delete(fmt.Appendf(nil, "k%04d", j))
			dead += size
		}
		require.NoError(t, s.Commit(&b))
	}
	live := int64(len(kept) * size)
	reclaimAll(t, s, live, dead, full/2)
	for k, v := range kept {
		requireValue(t, s, k, v)
	}
	dir := s.opts
	require.NoError(t, s.Close())
	s = open(t, dir)
	for k, v := range kept {
		requireValue(t, s, k, v)
	}
}

func TestASnapshotOutlivesReclaim(t *testing.T) {
	rnd := kvtest.Rand(t)
	s := open(t, small(t.TempDir()))
	const n, size = 200, 50 << 10
	old := map[string][]byte{}
	for i := range n {
		k := fmt.Sprintf("k%04d", i)
		old[k] = value(rnd, size)
		require.NoError(t, set(s, k, old[k]))
	}
	snap, err := s.Snapshot()
	require.NoError(t, err)
	var b kv.Batch
	for i := range n {
		k := fmt.Appendf(nil, "k%04d", i)
		if i%2 == 0 {
			b.Delete(k)
		} else {
			b.Set(k, []byte("new"))
		}
	}
	require.NoError(t, s.Commit(&b))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		_, _, err := s.Reclaim(0, n*size)
		require.NoError(t, err)
		<-tick.C
	}
	for k, v := range old {
		requireValue(t, snap, k, v)
	}
	seen := 0
	require.NoError(t, snap.Scan([]byte("k"), func([]byte, int64) bool { seen++; return true }))
	require.Equal(t, n, seen)
	snap.Close()
	// Two files that are not moved for so little, of up to 1.2 MiB, and the one that
	// is written to, of which twice a file's size is allocated at most.
	reclaimAll(t, s, 0, n*size+1<<20, 5<<20)
	requireValue(t, s, "k0001", []byte("new"))
}

// On a disk that is nearly full the redo log grows by less than it would, rather than not.
func TestTheRedoLogGrowsOnADiskThatIsNearlyFull(t *testing.T) {
	const reserve = 10 << 20
	d := &disk{free: 1 << 40}
	o := small(t.TempDir())
	o.MinFree, o.FreeSpace = reserve, d.freeSpace
	s := open(t, o)
	require.True(t, s.Journal().Room(3<<20))
	_, before := s.redo.ring.Use()
	d.set(reserve + 10<<20) // four times as large would be more
	s.space.allow.Store(0)
	require.True(t, s.Journal().Room(6<<20))
	_, after := s.redo.ring.Use()
	require.Greater(t, after, before)
	require.Less(t, after, 3*before)
	d.set(reserve + 1<<20)
	s.space.allow.Store(0)
	require.False(t, s.Journal().Room(12<<20))
}
