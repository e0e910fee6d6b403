package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// Badger itself syncs the newest files only.
func TestSyncReachesFilesThatAreFull(t *testing.T) {
	s := open(t, small(t.TempDir()))
	synced := map[string]int{}
	s.disk.Sync = func(f *os.File) error {
		synced[filepath.Base(f.Name())]++
		return datasync(f)
	}
	write := func() (logs []string) {
		for i := range 60 {
			require.NoError(t, set(s, fmt.Sprint(i), make([]byte, 60<<10)))
		}
		names, err := filepath.Glob(filepath.Join(s.opts.Dir, "*.vlog"))
		require.NoError(t, err)
		for _, n := range names {
			logs = append(logs, filepath.Base(n))
		}
		return logs
	}
	first := write()
	require.Greater(t, len(first), 2, "several files are full")
	require.NoError(t, s.Sync())
	for _, n := range first {
		require.Equal(t, 1, synced[n], n)
	}
	mems := 0
	for n := range synced {
		if filepath.Ext(n) == ".mem" {
			mems++
		}
	}
	require.Positive(t, mems)
	second := write()
	require.NoError(t, s.Sync())
	for _, n := range second {
		require.Positive(t, synced[n], n)
	}
	require.Equal(t, 1, synced[first[0]], "once is enough for one that is full")
	require.Equal(t, 2, synced[first[len(first)-1]], "it was written to after")
}

// Space reclaiming copies what lives of a file and removes the file. A power
// loss between the two must not take what had been synced.
func TestReclaimSyncsCopiesBeforeItRemovesTheFile(t *testing.T) {
	s := open(t, small(t.TempDir()))
	const n, size = 400, 50 << 10
	var live, dead int64
	for i := range n {
		require.NoError(t, set(s, fmt.Sprintf("k%04d", i), make([]byte, size)))
	}
	require.NoError(t, s.Sync())
	var b kv.Batch
	for i := range n {
		if i%5 == 0 {
			live += size
			continue
		}
		dead += size
		b.Delete(fmt.Appendf(nil, "k%04d", i))
	}
	require.NoError(t, s.Commit(&b))
	files := func() []string {
		names, err := filepath.Glob(filepath.Join(s.opts.Dir, "*.vlog"))
		require.NoError(t, err)
		return names
	}
	atSync, syncs := files(), 0
	s.disk.Sync = func(f *os.File) error {
		atSync = files()
		syncs++
		return datasync(f)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	removed := 0
	for range 500 {
		before, done := files(), syncs
		_, moved, err := s.Reclaim(live, dead)
		require.NoError(t, err)
		left := files()
		for _, name := range before {
			if !slices.Contains(left, name) {
				removed++
				require.Greater(t, syncs, done, "%s is gone without a sync", name)
			}
		}
		// The last one to go was still there when the copies were synced.
		if moved {
			require.Greater(t, len(atSync), len(left))
		}
		if removed > 5 {
			break
		}
		<-tick.C
	}
	require.Greater(t, removed, 5)
	for i := 0; i < n; i += 5 {
		requireValue(t, s, fmt.Sprintf("k%04d", i), make([]byte, size))
	}
}

func TestAFailedSyncOfAFullFileStopsTheStore(t *testing.T) {
	s, err := begin(small(t.TempDir()))
	require.NoError(t, err)
	require.NoError(t, set(s, "a", []byte("1")))
	s.disk.Sync = func(*os.File) error { return os.ErrNotExist } // taken away by space reclaiming
	require.NoError(t, s.Sync())
	s.disk.Sync = func(*os.File) error { return errors.New("input/output error") }
	require.ErrorIs(t, s.Sync(), shardlog.ErrStorage)
	require.ErrorIs(t, set(s, "b", nil), shardlog.ErrStorage)
	require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
}
