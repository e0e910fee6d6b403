package stream

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
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
				o := oldOptions(name, next)
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
					require.Eventually(t, func() bool { return oldJournal(t, db) == 0 }, time.Minute, time.Millisecond)
					require.NoError(t, db.Close())
				}
			}
		})
	}
}

// oldOptions are those to open an unpacked database with.
func oldOptions(name string, d Durability) *Options {
	o := &Options{Durability: d, ValueLogFileBytes: 1 << 20, MinFreeBytes: 1 << 20}
	if strings.Contains(name, "encrypted") {
		o.EncryptionKey = bytes.Repeat([]byte("k"), 32)
	}
	return o
}

// oldJournal returns how many values of the journal of format 1 there are.
func oldJournal(t *testing.T, db *DB) (n int) {
	t.Helper()
	require.NoError(t, db.log.Scan([]byte("j"), func([]byte) bool { n++; return true }))
	return n
}

// A process may be killed at any step of the change from format 1: between any two commits, or
// when the journal has the records and the values that had them are still there.
func TestKillsWhileTheFormatChanges(t *testing.T) {
	for _, name := range []string{"always-killed-encrypted", "interval-killed", "never"} {
		for _, first := range []Durability{SyncAlways, SyncNever} {
			t.Run(fmt.Sprintf("%s %v", name, first), func(t *testing.T) {
				dir := unpack(t, filepath.Join("testdata", "format1", name+".zip"))
				o, err := oldOptions(name, first).withDefaults(dir)
				require.NoError(t, err)
				store, err := openStore(dir, o)
				require.NoError(t, err)
				steps := &stepStore{Store: store.(*badgerkv.Store), t: t, dir: dir}
				db, err := openOn(steps, o)
				require.NoError(t, err)
				require.Eventually(t, func() bool { return oldJournal(t, db) == 0 }, time.Minute, time.Millisecond)
				require.NoError(t, db.Close())
				require.Greater(t, steps.both, 0, "records were in both places")
				require.Greater(t, len(steps.killed), 2)
				for i, dir := range steps.killed {
					for _, next := range []Durability{SyncAlways, SyncNever} {
						to := filepath.Join(t.TempDir(), "log")
						require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
						o := oldOptions(name, next)
						report, err := Check(t.Context(), to, o)
						require.NoError(t, err)
						require.Empty(t, report.Findings, "step %d", i)
						for more := range 2 {
							db, err := Open(to, o)
							require.NoError(t, err, "step %d", i)
							requireOld(t, db, more)
							require.NoError(t, db.Close())
						}
					}
				}
			})
		}
	}
}

// stepStore keeps copies of its directory as a kill would leave it after each commit.
type stepStore struct {
	*badgerkv.Store
	t      *testing.T
	dir    string
	killed []string
	both   int // copies with values of the old journal and a journal that was begun
	begun  bool
}

// copy is called by the goroutine that commits.
func (s *stepStore) copy() {
	s.killed = append(s.killed, kvtest.Killed(s.t, s.dir))
	err := s.Store.Scan([]byte("j"), func([]byte, int64) bool {
		if s.begun {
			s.both++
		}
		return false
	})
	if err != nil {
		s.t.Error(err)
	}
}

func (s *stepStore) Commit(b *kv.Batch) error {
	if err := s.Store.Commit(b); err != nil {
		return err
	}
	s.copy()
	return nil
}

func (s *stepStore) Journal() kv.Journal { return stepJournal{s.Store.Journal(), s} }

type stepJournal struct {
	kv.Journal
	s *stepStore
}

func (j stepJournal) Restart(entries [][]byte) ([]kv.Position, error) {
	places, err := j.Journal.Restart(entries)
	if err == nil {
		j.s.begun = true
		j.s.copy()
	}
	return places, err
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
