package stream

import (
	"fmt"
	"io/fs"
	"math/rand"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/leaktest"
)

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestClosingLeavesNoGoroutine(t *testing.T) {
	for name, durability := range map[string]Durability{"always": SyncAlways, "interval": SyncInterval} {
		t.Run(name, func(t *testing.T) {
			o := smallOptions()
			o.Durability = durability
			before := leaktest.Now()
			db, err := Open(t.TempDir(), o)
			require.NoError(t, err)
			st := create(t, db, "s", Config{Shards: 3})
			put(t, st, "a", "x")
			require.NoError(t, db.Close())
			require.Empty(t, before.Left())
		})
	}
}

func TestAnIdleDatabaseTakesLittleMemory(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 { // the first time initialises what all databases share
		before := heapInUse()
		db, err := Open(dir, smallOptions())
		require.NoError(t, err)
		if i == 0 {
			put(t, create(t, db, "s", Config{}), "a", "x")
		} else {
			// A compaction that opening has caused takes some while it lasts.
			require.Eventually(t, func() bool { return heapInUse()-before < 3<<20 }, time.Minute, 20*time.Millisecond)
		}
		require.NoError(t, db.Close())
	}
}

// Shards that have little each, and are many, fill the journal; the transaction
// that settles it has its own bounds.
func TestManyShardsWithLittleInEach(t *testing.T) {
	db := openDB(t, t.TempDir(), &Options{Durability: SyncNever})
	st := create(t, db, "s", Config{Shards: 3000})
	infos := shards(t, st)
	r, _ := newRand(t)
	const rounds = 14
	for round := range rounds {
		recs := make([]shardlog.Record, len(infos))
		for i := range recs {
			recs[i] = shardlog.Record{PartitionKey: fmt.Sprint(round), ExplicitHashKey: infos[i].HashStart, Data: incompressible(r, 600)}
		}
		res, err := st.PutRecords(t.Context(), recs)
		require.NoError(t, err)
		for i := range res {
			require.NoError(t, res[i].Err, "round %d", round)
		}
	}
	for _, s := range st.Stats().Shards {
		require.EqualValues(t, rounds, s.Records)
	}
}

// Blocks that compression makes small go into one transaction anyway.
func TestManyCompressibleBlocksInOneCall(t *testing.T) {
	db := openDB(t, t.TempDir(), smallOptions())
	st := create(t, db, "s", Config{Shards: 200, Compression: S2})
	infos := shards(t, st)
	r, _ := newRand(t)
	var recs []shardlog.Record
	for i := range 200 {
		half := incompressible(r, 3000)
		for range 4 {
			recs = append(recs, shardlog.Record{PartitionKey: "k", ExplicitHashKey: infos[i].HashStart, Data: half})
		}
	}
	res, err := st.PutRecords(t.Context(), recs)
	require.NoError(t, err)
	for i := range res {
		require.NoError(t, res[i].Err)
	}
	require.Len(t, readStream(t, st), len(recs))
}

func incompressible(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// onDisk returns the allocated bytes of a directory.
func onDisk(t testing.TB, dir string) (n int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go
		}
		if fi, err := d.Info(); err == nil {
			n += allocatedBytes(fi)
		}
		return nil
	}))
	return n
}

func TestMemoryOfAnInMemoryDatabaseStaysBounded(t *testing.T) {
	db := openMem(t)
	st := create(t, db, "s", Config{Shards: 3, RetentionBytes: 4 << 20, Retention: Forever})
	before := heapInUse()
	for n := range 300 {
		recs := make([]shardlog.Record, 100)
		for i := range recs {
			recs[i] = shardlog.Record{PartitionKey: fmt.Sprint(n, i), Data: make([]byte, 2<<10)}
		}
		_, err := st.PutRecords(t.Context(), recs)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return st.Stats().Bytes <= 4<<20 }, time.Minute, time.Millisecond)
	grown := heapInUse() - before
	t.Logf("60 MiB written, the heap grew by %d KiB", grown>>10)
	require.Less(t, grown, int64(32<<20))
}

func TestStatsArePlausible(t *testing.T) {
	dir := t.TempDir()
	for name, db := range map[string]*DB{"memory": openMem(t), "disk": openDB(t, dir, smallOptions())} {
		t.Run(name, func(t *testing.T) {
			st := create(t, db, "s", Config{Shards: 2})
			create(t, db, "empty", Config{Shards: 3})
			size := 0
			for i := range 100 {
				rec := shardlog.Record{PartitionKey: fmt.Sprint(i), Data: make([]byte, 500)}
				size += rec.Size()
				_, err := st.Put(t.Context(), rec)
				require.NoError(t, err)
			}
			s := st.Stats()
			require.Len(t, s.Shards, 2)
			var sum ShardStats
			for _, ss := range s.Shards {
				sum.Records += ss.Records
				sum.Bytes += ss.Bytes
				sum.RecordsIn += ss.RecordsIn
				sum.BytesIn += ss.BytesIn
				require.Zero(t, ss.RecordsOut)
				require.False(t, ss.Closed)
				require.Positive(t, ss.OldestAge)
				require.Less(t, ss.OldestAge, time.Minute)
				require.Positive(t, ss.Blocks)
			}
			require.EqualValues(t, 100, sum.Records)
			require.EqualValues(t, 100, sum.RecordsIn)
			require.EqualValues(t, size, sum.BytesIn)
			require.Equal(t, s.Bytes, sum.Bytes)
			require.GreaterOrEqual(t, s.Bytes, int64(size))
			require.Less(t, s.Bytes, int64(size+100*200))
			require.Len(t, readStream(t, st), 100)
			out, outBytes := int64(0), int64(0)
			for _, ss := range st.Stats().Shards {
				out += ss.RecordsOut
				outBytes += ss.BytesOut
			}
			require.EqualValues(t, 100, out)
			require.EqualValues(t, size, outBytes)
			p, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardID(0), MaxRecords: 1})
			require.NoError(t, err)
			require.Equal(t, p.Behind, st.Stats().Shards[0].Behind)

			d := db.Stats()
			require.Equal(t, 2, d.Streams)
			require.Equal(t, 5, d.Shards)
			require.GreaterOrEqual(t, d.Groups, int64(100))
			require.GreaterOrEqual(t, d.LiveBytes, int64(size))
			if name == "disk" {
				require.GreaterOrEqual(t, d.Syncs, int64(100))
				require.Greater(t, d.DiskBytes, int64(size))
				require.Positive(t, d.FreeBytes)
				require.InDelta(t, onDisk(t, dir), d.DiskBytes, 1<<20)
			} else {
				require.EqualValues(t, -1, d.FreeBytes)
				require.Zero(t, d.DiskBytes)
				require.Zero(t, d.Syncs)
			}
			require.NoError(t, db.Sync())
			require.NoError(t, db.Delete(t.Context(), "s"))
			require.Equal(t, 1, db.Stats().Streams)
			require.Less(t, db.Stats().LiveBytes, int64(1000))
			require.GreaterOrEqual(t, db.Stats().LiveBytes, int64(0))
		})
	}
}

func TestStreamsAreListedByName(t *testing.T) {
	db := openMem(t)
	want := []string{"A", "a", "a.b", "b", "z"}
	for _, i := range []int{3, 0, 4, 2, 1} {
		create(t, db, want[i], Config{})
	}
	var got []string
	streams, err := db.Streams(t.Context())
	require.NoError(t, err)
	for _, st := range streams {
		got = append(got, st.Name())
	}
	require.Equal(t, want, got)
}
