package stream

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// The databases in testdata/format1 were written by internal/oldformat at the last
// commit with format 1.
func TestDatabasesOfAnEarlierFormat(t *testing.T) {
	packed, err := filepath.Glob("testdata/format*/*.zip")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(packed), 8)
	for _, path := range packed {
		name := strings.TrimSuffix(filepath.Base(path), ".zip")
		t.Run(name, func(t *testing.T) {
			for _, next := range []Durability{SyncAlways, SyncNever} {
				dir := unpack(t, path)
				o := &Options{Durability: next, ValueLogFileBytes: 1 << 20, MinFreeBytes: 1 << 20}
				if strings.Contains(name, "encrypted") {
					o.EncryptionKey = bytes.Repeat([]byte("k"), 32)
				}
				report, err := Check(t.Context(), dir, o)
				require.NoError(t, err)
				require.Empty(t, report.Findings)
				for more := range 3 {
					db, err := Open(dir, o)
					require.NoError(t, err)
					requireOld(t, db, more)
					v, err := db.log.Get(keyFormat)
					require.NoError(t, err)
					require.Equal(t, fmt.Sprint(formatVersion), string(v))
					require.NoError(t, db.Close())
				}
			}
		})
	}
}

// requireOld compares what internal/oldformat has written, and adds a record. More
// is how many were added before.
func requireOld(t *testing.T, db *DB, more int) {
	t.Helper()
	const records = 140
	st, err := db.Stream(t.Context(), "s")
	require.NoError(t, err)
	last := map[string]int{}
	seen := 0
	for _, sh := range shardIDs(t, st) {
		for _, r := range readAll(t, st, sh) {
			var i int
			_, err := fmt.Sscanf(string(r.Data), "%d", &i)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("key ", i%7), r.PartitionKey)
			if before, ok := last[r.PartitionKey]; ok {
				require.Greater(t, i, before, "the order of a key")
			}
			last[r.PartitionKey] = i
			seen++
		}
	}
	require.Equal(t, records+more, seen)
	l, err := db.Checkpoints().Get(t.Context(), checkpoint.Key{Group: "g", Stream: "s", Shard: "shardId-000000000000"})
	require.NoError(t, err)
	require.Equal(t, uint64(5), l.Epoch)
	require.Equal(t, "worker", l.Owner)
	n := records + more
	_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: fmt.Sprint("key ", n%7), Data: fmt.Appendf(nil, "%08d", n)})
	require.NoError(t, err)
}

func shardIDs(t *testing.T, st *Stream) (ids []string) {
	t.Helper()
	shards, err := st.Shards(t.Context())
	require.NoError(t, err)
	for _, s := range shards {
		ids = append(ids, s.ID)
	}
	return ids
}

func unpack(t *testing.T, path string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "log")
	r, err := zip.OpenReader(path)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, os.CopyFS(dir, r))
	return dir
}
