package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// Badger itself syncs the newest files only.
func TestSyncReachesFilesThatAreFull(t *testing.T) {
	s := open(t, small(t.TempDir()))
	synced := map[string]int{}
	s.syncFile = func(name string) error {
		synced[filepath.Base(name)]++
		return syncFile(name)
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

func TestAFailedSyncOfAFullFileStopsTheStore(t *testing.T) {
	s, err := Open(small(t.TempDir()))
	require.NoError(t, err)
	require.NoError(t, set(s, "a", []byte("1")))
	s.syncFile = func(string) error { return os.ErrNotExist } // taken away by space reclaiming
	require.NoError(t, s.Sync())
	s.syncFile = func(string) error { return errors.New("input/output error") }
	require.ErrorIs(t, s.Sync(), shardlog.ErrStorage)
	require.ErrorIs(t, set(s, "b", nil), shardlog.ErrStorage)
	require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
}
