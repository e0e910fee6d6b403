package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
)

// exampleDB fills a database with a lineage, tags, checkpoints and records of
// several sizes.
func exampleDB(t testing.TB, db *DB) *Stream {
	t.Helper()
	st := create(t, db, "s", Config{Shards: 2, Compression: S2, Tags: map[string]string{"a": "b"}, Retention: Forever, Limits: Limits{ReadBytes: 1e9}})
	for i := range 30 {
		put(t, st, fmt.Sprint("key", i), strings.Repeat("x", i*i*20))
	}
	require.NoError(t, st.Reshard(t.Context(), 3))
	for i := range 30 {
		put(t, st, fmt.Sprint("key", i), "second")
	}
	for i := range 500 {
		_, err := db.Checkpoints().Create(t.Context(), checkpoint.Lease{
			Key: checkpoint.Key{Group: "g", Stream: "s", Shard: fmt.Sprint(i)}, PreparedState: make([]byte, 700)})
		require.NoError(t, err)
	}
	return st
}

func backup(t testing.TB, db *DB) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, db.Backup(t.Context(), &b))
	return b.Bytes()
}

func TestBackupAndRestore(t *testing.T) {
	key := []byte("0123456789abcdef")
	encrypted := smallOptions()
	encrypted.EncryptionKey = key
	for name, opts := range map[string]*Options{"plain": smallOptions(), "encrypted": encrypted, "values outside the tree": {ValueLogFileBytes: 1 << 20, MinFreeBytes: 1 << 20, Durability: SyncNever}} {
		t.Run(name, func(t *testing.T) {
			for source, db := range map[string]*DB{"memory": openMem(t), "disk": openDB(t, t.TempDir(), opts)} {
				st := exampleDB(t, db)
				data := backup(t, db)
				dir := filepath.Join(t.TempDir(), "a", "b")
				require.NoError(t, Restore(t.Context(), dir, bytes.NewReader(data), opts), source)
				if opts.EncryptionKey != nil {
					_, err := Open(dir, smallOptions())
					requireInvalid(t, err, "EncryptionKey")
				}
				db2 := openDB(t, dir, opts)
				st2, err := db2.Stream(t.Context(), "s")
				require.NoError(t, err)
				require.Equal(t, st.Info(), st2.Info())
				require.Equal(t, shards(t, st), shards(t, st2))
				require.Equal(t, readStream(t, st), readStream(t, st2))
				rows, err := db.Checkpoints().List(t.Context(), "g", "")
				require.NoError(t, err)
				rows2, err := db2.Checkpoints().List(t.Context(), "g", "")
				require.NoError(t, err)
				require.Equal(t, rows, rows2)
				before := readStream(t, st2)
				for i := range 30 {
					res := put(t, st2, fmt.Sprint("key", i), "third")
					for _, r := range before {
						require.False(t, r.ShardID == res.ShardID && r.Sequence.Compare(res.Sequence) >= 0, "numbers go on")
					}
				}
				create(t, db2, "another", Config{})
			}
		})
	}
}

func TestBackupWhileWriting(t *testing.T) {
	db := openDB(t, t.TempDir(), &Options{Durability: SyncNever, ValueLogFileBytes: 1 << 20, MinFreeBytes: 1 << 20})
	st := create(t, db, "s", Config{Shards: 2, RetentionBytes: 1 << 20})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := 0 // records that every backup begun from now on must have
	for w := range 2 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				recs := make([]shardlog.Record, 1+n%20)
				for i := range recs {
					recs[i] = shardlog.Record{PartitionKey: fmt.Sprint(w), Data: bytes.Repeat([]byte{1}, 200)}
				}
				res, err := st.PutRecords(context.Background(), recs)
				if err != nil || res[0].Err != nil {
					t.Error(err, res)
					return
				}
				mu.Lock()
				acked += len(recs)
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			if err := st.Reshard(context.Background(), 1+n%4); err != nil {
				t.Error(err)
			}
			other, err := db.Create(context.Background(), "other", Config{Shards: 3})
			if err == nil {
				_, err = other.Put(context.Background(), shardlog.Record{PartitionKey: "k"})
			}
			if err := errors.Join(err, db.Delete(context.Background(), "other")); err != nil {
				t.Error(err)
			}
		}
	})
	for range 4 {
		mu.Lock()
		min := acked
		mu.Unlock()
		data := backup(t, db)
		mu.Lock()
		max := acked + 40
		mu.Unlock()
		dir := t.TempDir()
		require.NoError(t, Restore(t.Context(), dir, bytes.NewReader(data), smallOptions()))
		db2, err := Open(dir, smallOptions())
		require.NoError(t, err)
		st2, err := db2.Stream(t.Context(), "s")
		require.NoError(t, err)
		requireCovered(t, shards(t, st2))
		total := 0
		for _, s := range shards(t, st2) {
			var last uint64
			n := 0
			for _, r := range readAll(t, st2, s.ID) { // fails on gaps
				require.Greater(t, counterOf(r.Sequence), last)
				last = counterOf(r.Sequence)
				n++
			}
			if n > 0 {
				total += int(last - counterOf(s.First))
			} else {
				total += int(readHorizon(t, st2, s) - counterOf(s.First) - 1)
			}
		}
		require.GreaterOrEqual(t, total, min)
		require.LessOrEqual(t, total, max)
		require.NoError(t, db2.Close())
	}
	cancel()
	wg.Wait()
}

// requireNothingLeft checks that a failed restore left neither the directory
// nor anything next to it.
func requireNothingLeft(t testing.TB, dir string) {
	t.Helper()
	require.NoDirExists(t, dir)
	entries, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestRestoreRefusesDamagedBackups(t *testing.T) {
	db := openMem(t)
	st := create(t, db, "s", Config{})
	for i := range 20 {
		put(t, st, "k", strings.Repeat("x", i*300))
	}
	data := backup(t, db)
	r, _ := newRand(t)
	restoreBad := func(bad []byte) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "db")
		err := Restore(t.Context(), dir, bytes.NewReader(bad), smallOptions())
		require.ErrorIs(t, err, shardlog.ErrCorrupt)
		requireNothingLeft(t, dir)
	}
	for n := 0; n < len(data); n += 1 + len(data)/20 {
		restoreBad(data[:n])
	}
	restoreBad(data[:len(data)-1])
	restoreBad([]byte("something else entirely"))
	for range 20 {
		bad := bytes.Clone(data)
		i := r.Intn(len(bad))
		if i == 7 {
			continue // the version
		}
		bad[i] ^= 1 << r.Intn(8)
		restoreBad(bad)
	}
	// Without a directory in between, all of it.
	for i := 0; i < len(data); i += 1 + i/100 {
		for _, bad := range [][]byte{data[:i], flip(data, i)} {
			err := readBackup(t.Context(), bytes.NewReader(bad), kv.NewMemory())
			require.Error(t, err)
			require.True(t, errors.Is(err, shardlog.ErrCorrupt) || (i == 7 && errors.Is(err, shardlog.ErrVersion)), "%d: %v", i, err)
		}
	}
}

func flip(data []byte, i int) []byte {
	bad := bytes.Clone(data)
	bad[i] ^= 1 << (i % 8)
	return bad
}

func TestRestoreRefusals(t *testing.T) {
	data := backup(t, openMem(t))
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600))
	require.ErrorIs(t, Restore(t.Context(), dir, bytes.NewReader(data), nil), shardlog.ErrExists)
	require.FileExists(t, filepath.Join(dir, "mine"))
	requireInvalid(t, Restore(t.Context(), "", bytes.NewReader(data), &Options{InMemory: true}), "InMemory")
	requireInvalid(t, Restore(t.Context(), "", bytes.NewReader(data), nil), "dir")
	newer := bytes.Clone(data)
	newer[7] = formatVersion + 1
	dir = filepath.Join(t.TempDir(), "db")
	err := Restore(t.Context(), dir, bytes.NewReader(newer), smallOptions())
	require.ErrorIs(t, err, shardlog.ErrVersion)
	require.Contains(t, err.Error(), fmt.Sprintf("format %d", formatVersion+1))
	requireNothingLeft(t, dir)
	broken := errors.New("broken pipe")
	err = Restore(t.Context(), dir, failingReader{broken}, smallOptions())
	require.ErrorIs(t, err, broken)
	requireNothingLeft(t, dir)
	require.ErrorIs(t, openMem(t).Backup(t.Context(), failingWriter{broken}), broken)
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func FuzzReadBackup(f *testing.F) {
	db := openMem(f)
	f.Add(backup(f, db))
	put(f, create(f, db, "s", Config{}), "k", "data")
	good := backup(f, db)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		store := kv.NewMemory()
		err := readBackup(t.Context(), bytes.NewReader(data), store)
		if err != nil {
			if !errors.Is(err, shardlog.ErrCorrupt) && !errors.Is(err, shardlog.ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		// A checksum that is right does not make the contents so.
		opts, _ := (&Options{}).withDefaults("dir")
		if db, err := openOn(store, opts); err == nil {
			_ = db.Close()
		}
	})
}

// What was written after a backup may have been read by somebody who keeps
// positions elsewhere: its numbers do not come back.
func TestRestoreSkipsTheNumbersThatCameAfterTheBackup(t *testing.T) {
	db := openMem(t)
	st := create(t, db, "s", Config{})
	put(t, st, "k", "in the backup")
	var b bytes.Buffer
	require.NoError(t, db.Backup(t.Context(), &b))
	after, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("after it")})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "restored")
	require.NoError(t, Restore(t.Context(), dir, &b, nil))
	again := openDB(t, dir, nil)
	st, err = again.Stream(t.Context(), "s")
	require.NoError(t, err)
	next, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("another")})
	require.NoError(t, err)
	require.Positive(t, next.Sequence.Compare(after.Sequence))
	require.Error(t, db.Backup(t.Context(), nil))
	require.ErrorIs(t, Restore(t.Context(), dir+"2", nil, nil), shardlog.ErrInvalid)
}
