package logstore

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// syncCounter counts the calls of Sync.
type syncCounter struct {
	kv.Store
	syncs atomic.Int64
}

func (s *syncCounter) Sync() error {
	s.syncs.Add(1)
	return s.Store.Sync()
}

// What only the journal has is synced at the interval as well, without any commit.
func TestTheJournalIsSyncedAtTheInterval(t *testing.T) {
	mem := kvtest.New(kv.NewMemory())
	store := &syncCounter{Store: mem}
	l, ss := openOn(t, store, 1, Options{SyncEvery: time.Millisecond})
	for range 3 {
		commits, before := mem.Commits(), store.syncs.Load()
		require.NoError(t, put(l, ss[0], "a"))
		require.Equal(t, commits, mem.Commits(), "the journal has it")
		require.Eventually(t, func() bool { return store.syncs.Load() > before && !l.unsynced.Load() }, time.Minute, time.Millisecond)
	}
}
