//go:build !race

// Badger's value log rewriting reads the version of a memtable that is written
// to at that moment (valueLog.rewrite calls DB.MaxVersion), which the race
// detector reports; so this file is not built with it.

package stream

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// The disk that a database may take: twice what is live, eight value log files,
// the redo log, and 24 MiB for Badger's tree, memtables and their logs. While it is written to
// as fast as can be, what is written from the deletion of a block to that of
// its file is added: how much that is depends on the machine, so the test
// looks whenever the writer takes a breath, which is every diskBreath bytes.
func diskBound(live int64, o *Options) int64 {
	return 2*live + 8*o.ValueLogFileBytes + o.RedoLogBytes + 24<<20
}

const diskBreath = 32 << 20

func TestDiskStaysBounded(t *testing.T) {
	const retention = 4 << 20
	for name, c := range map[string]struct {
		durability Durability
		total      int
		streams    []Config
		batch      int // records of 2 KiB in one call
	}{
		"batches":      {SyncNever, 160 << 20, []Config{{RetentionBytes: retention}}, 200},
		"two streams":  {SyncNever, 160 << 20, []Config{{RetentionBytes: retention}, {RetentionBytes: retention / 4, Shards: 3, Compression: S2}}, 100},
		"small blocks": {SyncNever, 60 << 20, []Config{{RetentionBytes: retention, Shards: 40}}, 40},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRand(t)
			dir, o := t.TempDir(), smallOptions()
			o.Durability, o.RedoLogBytes = c.durability, 4<<20
			db := openDB(t, dir, o)
			var streams []*Stream
			live := int64(0)
			for i, cfg := range c.streams {
				cfg.Retention = Forever
				streams = append(streams, create(t, db, fmt.Sprint("s", i), cfg))
				live += cfg.RetentionBytes
			}
			high, written, breath := int64(0), 0, diskBreath
			check := func() {
				require.Eventually(t, func() bool { return onDisk(t, dir) < diskBound(live, o) }, 2*time.Minute, 10*time.Millisecond, "after %d MiB", written>>20)
			}
			for n := 0; written < c.total; n++ {
				recs := make([]shardlog.Record, c.batch)
				for i := range recs {
					recs[i] = shardlog.Record{PartitionKey: fmt.Sprint(n, i), Data: incompressible(r, 2<<10)}
					written += 2 << 10
				}
				res, err := streams[n%len(streams)].PutRecords(t.Context(), recs)
				require.NoError(t, err)
				require.NoError(t, res[0].Err)
				if n%10 == 0 {
					high = max(high, onDisk(t, dir))
				}
				if written >= breath {
					breath += diskBreath
					check()
				}
			}
			for n := range 200 { // then one by one
				_, err := streams[n%len(streams)].Put(t.Context(), shardlog.Record{PartitionKey: fmt.Sprint(n), Data: incompressible(r, 2<<10)})
				require.NoError(t, err)
			}
			check()
			require.Eventually(t, func() bool {
				for i, st := range streams {
					if st.Stats().Bytes > c.streams[i].RetentionBytes {
						return false
					}
				}
				return onDisk(t, dir) < diskBound(live, o)
			}, 30*time.Second, 50*time.Millisecond, "idle")
			t.Logf("%d MiB written, %d MiB live, at most %.1f MiB on disk, %.1f MiB at the end; the bound is %d MiB",
				written>>20, db.Stats().LiveBytes>>20, float64(high)/(1<<20), float64(onDisk(t, dir))/(1<<20), diskBound(live, o)>>20)
		})
	}
}
