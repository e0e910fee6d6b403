package badgerkv

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv"
)

func batchOf(pairs ...string) *kv.Batch {
	b := &kv.Batch{}
	for i := 0; i < len(pairs); i += 2 {
		b.Set([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	return b
}

// What a process that is killed leaves may have a frame that Badger lacks. The
// version of that frame is missing in Badger's logs then, which is no damage when
// the next process is killed as well.
func TestKilledAgainAfterARecovery(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites = true
	s := open(t, o)
	require.NoError(t, set(s, "a", []byte("1")))
	b := batchOf("b", "2")
	require.NoError(t, s.redo.ring.Room(b))
	require.NoError(t, s.redo.ring.Append(s.ts.Load()+1, b))
	dir := killed(t, o.Dir)
	logs, err := numbered(dir, ".mem")
	require.NoError(t, err)
	old, err := os.ReadFile(logs[0].path)
	require.NoError(t, err)

	o.Dir = dir
	s = open(t, o)
	requireValue(t, s, "b", []byte("2"))
	require.Eventually(t, func() bool { return !exists(logs[0].path) }, time.Minute, time.Millisecond)
	again := killed(t, dir)
	// It may have been killed before that log was removed.
	require.NoError(t, os.WriteFile(filepath.Join(again, filepath.Base(logs[0].path)), old, 0o644))

	o.Dir = again
	s = open(t, o)
	requireValue(t, s, "a", []byte("1"))
	requireValue(t, s, "b", []byte("2"))
}
