package stream

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// storages are the forms in which a directory has blocks.
func storages() map[string]func() (*Options, Config) {
	return map[string]func() (*Options, Config){
		"plain":     func() (*Options, Config) { return smallOptions(), Config{} },
		"s2":        func() (*Options, Config) { return smallOptions(), Config{Compression: S2} },
		"zstd":      func() (*Options, Config) { return smallOptions(), Config{Compression: Zstd} },
		"encrypted": func() (*Options, Config) { o := smallOptions(); o.EncryptionKey = make([]byte, 32); return o, Config{} },
	}
}

// scanRecords are n records with all that a record can have.
func scanRecords(from, n int) (records []shardlog.Record) {
	for i := from; i < from+n; i++ {
		r := shardlog.Record{PartitionKey: fmt.Sprint("key", i), Data: bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), 100)}
		if i%3 == 1 {
			r.ExplicitHashKey = shardlog.KeyHash(r.PartitionKey)
		}
		if i%3 == 2 {
			r.Headers = []shardlog.Header{{Key: "number", Value: fmt.Sprint(i)}}
		}
		records = append(records, r)
	}
	return records
}

func putAll(t *testing.T, st *Stream, records []shardlog.Record) {
	t.Helper()
	res, err := st.PutRecords(t.Context(), records)
	require.NoError(t, err)
	for i := range res {
		require.NoError(t, res[i].Err)
	}
}

// What is borrowed from a directory is the same as what is owned, when a block
// is read first and again, in this process and after opening it again.
func TestScanOfADirectory(t *testing.T) {
	for name, storage := range storages() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o, cfg := storage()
			cfg.Shards = 1
			const n = 6000 // more than memory keeps for readers near the tail
			db, err := Open(dir, o)
			require.NoError(t, err)
			st := create(t, db, "s", cfg)
			for i := 0; i < n; i += 500 {
				putAll(t, st, scanRecords(i, 500))
			}
			want := scanRecords(0, n)
			check := func() {
				i := 0
				for r, err := range st.Scan(t.Context(), shardID(0), shardlog.TrimHorizon()) {
					require.NoError(t, err)
					w := &want[i]
					if r.PartitionKey != w.PartitionKey || !bytes.Equal(r.Data, w.Data) || r.ExplicitHashKey != w.ExplicitHashKey || len(r.Headers) != len(w.Headers) {
						require.Equal(t, *w, *r)
					}
					i++
				}
				require.Equal(t, n, i)
				i = 0
				for r, err := range st.Records(t.Context(), shardID(0), shardlog.TrimHorizon()) {
					require.NoError(t, err)
					require.Equal(t, want[i].PartitionKey, r.PartitionKey)
					i++
				}
				require.Equal(t, n, i)
			}
			check()
			check()
			require.NoError(t, db.Close())
			db, err = Open(dir, o)
			require.NoError(t, err)
			st, err = db.Stream(t.Context(), "s")
			require.NoError(t, err)
			check()
			logstore.PoisonBorrowed(false)
			check()
			logstore.PoisonBorrowed(true)
			require.NoError(t, db.Close())
		})
	}
}

// The body of a loop over borrowed records may fill files of the value log, write
// what moves their mapping, sync, and close the database: nothing waits for the
// loop, and the record that it has stays what it is.
func TestNothingWaitsForALoopOverBorrowedRecords(t *testing.T) {
	for name, storage := range storages() {
		t.Run(name, func(t *testing.T) {
			logstore.PoisonBorrowed(false)
			defer logstore.PoisonBorrowed(true)
			o, cfg := storage()
			cfg.Shards = 1
			db, err := Open(t.TempDir(), o)
			require.NoError(t, err)
			st := create(t, db, "s", cfg)
			for i := 0; i < 3000; i += 500 {
				putAll(t, st, scanRecords(i, 500))
			}
			n := 0
			var end error
			for r, err := range st.Scan(t.Context(), shardID(0), shardlog.TrimHorizon()) {
				if err != nil {
					end = err
					continue
				}
				data := bytes.Clone(r.Data)
				switch n {
				case 100:
					for i := 0; i < 3000; i += 500 { // more than a file
						putAll(t, st, scanRecords(3000+i, 500))
					}
					large := shardlog.Record{PartitionKey: "k", Data: make([]byte, 700<<10)}
					putAll(t, st, []shardlog.Record{large, large}) // together more than a file
					require.NoError(t, db.Sync())
				case 200:
					require.NoError(t, st.SetRetention(t.Context(), time.Hour, 1<<20))
				case 250:
					require.NoError(t, db.Close())
				}
				require.Equal(t, data, r.Data)
				n++
			}
			require.Greater(t, n, 250)
			require.ErrorIs(t, end, shardlog.ErrClosed)
		})
	}
}
