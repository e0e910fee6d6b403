package badgerkv

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// storeWithData returns an open store that has something to flush.
func storeWithData(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := begin(o)
	require.NoError(t, err)
	var b kv.Batch
	b.Set([]byte("k"), []byte("v"))
	require.NoError(t, s.Commit(&b))
	return s
}

// A disk that somebody else has filled does not keep Close from returning, nor
// does it end the process: Badger's flush would write through a mapping. Once
// there is room the store is closed after all.
func TestCloseOnAFullDiskReturnsAndIsMadeUpForLater(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	o := Options{Dir: t.TempDir(), SyncWrites: true, ValueLogFile: 1 << 20, MinFree: 1 << 20, FreeSpace: func(string) (int64, error) { return free.Load(), nil }}
	s := storeWithData(t, o)
	free.Store(0)
	err := s.Close()
	require.ErrorIs(t, err, shardlog.ErrNoSpace)
	require.NoError(t, s.Close(), "it is closed for its user")
	_, err = begin(o)
	require.Error(t, err, "Badger has the directory, and the disk is full")

	free.Store(1 << 40)
	require.Eventually(t, func() bool {
		inv, err := badgerfile.ReadInventory(o.Dir)
		return err == nil && inv != nil && inv.State == badgerfile.StateClean
	}, time.Minute, 10*time.Millisecond)
	s, err = begin(o)
	require.NoError(t, err)
	v, err := s.Get([]byte("k"))
	require.NoError(t, err)
	require.Equal(t, "v", string(v))
	require.NoError(t, s.Close())
}

// Where the directory was removed Close returns and leaves nothing behind.
func TestCloseWithoutTheDirectoryReturns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	s := storeWithData(t, Options{Dir: dir, SyncWrites: true, ValueLogFile: 1 << 20, MinFree: 1 << 20})
	require.NoError(t, os.RemoveAll(dir))
	require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
	require.NoDirExists(t, dir)
}

// Where the directory was moved away and another has its place, that is not
// written to. Back in its place it is closed.
func TestCloseDoesNotWriteToAnotherDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	s := storeWithData(t, Options{Dir: dir, SyncWrites: true, ValueLogFile: 1 << 20, MinFree: 1 << 20})
	require.NoError(t, os.Rename(dir, dir+".moved"))
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)

	require.NoError(t, os.Remove(dir))
	require.NoError(t, os.Rename(dir+".moved", dir))
	require.NoError(t, s.db.Close()) // so that the test leaves no goroutines
}

// If the directory goes while writers fill memtables, they are refused once the
// first cannot be flushed; they would wait without end when all are full.
func TestWritersWithoutTheDirectoryAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	s := storeWithData(t, Options{Dir: dir, ValueLogFile: 64 << 20, MinFree: 1 << 20})
	require.NoError(t, os.RemoveAll(dir))
	value := bytes.Repeat([]byte("v"), 900)
	var err error
	for i := 0; err == nil; i++ {
		var b kv.Batch
		for j := range 100 {
			b.Set([]byte{'k', byte(i), byte(i >> 8), byte(j)}, value)
		}
		err = s.Commit(&b)
	}
	require.ErrorIs(t, err, shardlog.ErrStorage)
	require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
}

// A database that is opened many times for a moment has few tables.
func TestShortRunsLeaveFewTables(t *testing.T) {
	o := small(t.TempDir())
	o.FreeSpace = func(string) (int64, error) { return fillFar, nil }
	const runs = 5 * closeTables
	most := 0
	for i := range runs {
		s, err := begin(o)
		require.NoError(t, err)
		require.NoError(t, set(s, fmt.Sprint("k", i), []byte("v")))
		require.NoError(t, set(s, "state", fmt.Append(nil, i))) // each run changes it
		require.NoError(t, s.Close())
		tables, err := numbered(o.Dir, ".sst")
		require.NoError(t, err)
		most = max(most, len(tables))
	}
	require.LessOrEqual(t, most, closeTables+2)
	s := open(t, o)
	for i := range runs {
		requireValue(t, s, fmt.Sprint("k", i), []byte("v"))
	}
}
