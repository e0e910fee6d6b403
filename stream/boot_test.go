package stream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// A block at the end of a shard that is damaged may not have been synced, and is
// dropped, only if the system was started again since the writer began. Otherwise
// it was there in full, and readers get an error.
func TestEndsOfShardsAreDroppedAfterACrashOfTheSystemOnly(t *testing.T) {
	boot := bootOf(new(badgerkv.Store))
	if boot == "" {
		return // it is not known here, and ends are always looked at
	}
	ctx := context.Background()
	o := smallOptions()
	o.Durability, o.ValueLogFileBytes = SyncNever, 8<<20
	src := filepath.Join(t.TempDir(), "log")
	db, err := Open(src, o)
	require.NoError(t, err)
	st, err := db.Create(ctx, "s", Config{})
	require.NoError(t, err)
	for i := range 3 {
		_, err := st.Put(ctx, shardlog.Record{PartitionKey: "k", Data: bytes.Repeat([]byte{byte(i + 1)}, 600<<10)})
		require.NoError(t, err)
	}
	killed := kvtest.Killed(t, src)
	require.NoError(t, db.Close())
	damageLast(t, killed)

	for _, c := range []struct {
		state   string
		dropped bool
	}{
		{openState(SyncNever, boot), false},
		{stateOpen + SyncNever.String() + " another-run", true},
		{stateOpen + SyncNever.String(), true}, // recovery was not over
	} {
		t.Run(c.state, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			require.NoError(t, os.CopyFS(dir, os.DirFS(killed)))
			setState(t, dir, c.state)
			db, err := Open(dir, o)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			require.Equal(t, openState(SyncNever, boot), state(t, db))
			st, err := db.Stream(ctx, "s")
			require.NoError(t, err)
			// The next block shows what is missing before it.
			_, err = st.Put(ctx, shardlog.Record{PartitionKey: "k", Data: []byte("last")})
			require.NoError(t, err)
			found, faults := 0, 0
			var damaged *shardlog.CorruptError
			for from, more := shardlog.TrimHorizon(), true; more; {
				more = false
				for _, err := range st.Records(ctx, damageShard, from) {
					if errors.As(err, &damaged) {
						from, more = damaged.Next, true
						faults++
						break
					}
					require.NoError(t, err)
					found++
				}
			}
			require.Equal(t, 3, found)
			require.Equal(t, c.dropped, faults == 0)
		})
	}
}

// damageLast damages the value that is last in the value log.
func damageLast(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, lastFile(t, dir, "*.vlog"))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(bytes.TrimRight(b, "\x00"))-1000] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o644))
}

// setState changes the stored state of a database that is closed.
func setState(t *testing.T, dir, state string) {
	t.Helper()
	s, err := badgerkv.Open(badgerkv.Options{Dir: dir, ValueLogFile: 8 << 20, MinFree: 1})
	require.NoError(t, err)
	var b kv.Batch
	b.Set(keyState, []byte(state))
	require.NoError(t, errors.Join(s.Commit(&b), s.Close()))
}

// state returns the stored state of an open database.
func state(t *testing.T, db *DB) string {
	t.Helper()
	v, err := db.log.Get(keyState)
	require.NoError(t, err)
	return string(v)
}
