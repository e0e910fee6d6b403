package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// What many writers append one by one is all there, once and in the order of each, for
// those who read meanwhile and afterwards.
func TestWritersOfSingleRecords(t *testing.T) {
	const writers, each = 16, 4000
	for _, d := range []Durability{SyncNever, SyncInterval} {
		t.Run(d.String(), func(t *testing.T) {
			db := openDB(t, t.TempDir(), &Options{Durability: d})
			st := create(t, db, "s", Config{Shards: 4})
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						data := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(make([]byte, 0, 100), uint32(w)), uint32(i))
						_, err := st.Put(context.Background(), shardlog.Record{PartitionKey: fmt.Sprint(w), Data: data[:100]})
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			next := make([]uint32, writers)
			total := 0
			for _, s := range shards(t, st) {
				for r, err := range st.Scan(t.Context(), s.ID, shardlog.TrimHorizon()) {
					require.NoError(t, err)
					w, i := binary.BigEndian.Uint32(r.Data), binary.BigEndian.Uint32(r.Data[4:])
					if next[w] != i {
						t.Fatalf("writer %d: record %d where %d has to be, after %d records", w, i, next[w], total)
					}
					next[w]++
					total++
				}
			}
			require.Equal(t, writers*each, total)
		})
	}
}
