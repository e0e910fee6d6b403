package stream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func TestSmoke(t *testing.T) {
	for _, mem := range []bool{true, false} {
		t.Run(fmt.Sprint(mem), func(t *testing.T) {
			dir := ""
			if !mem {
				dir = t.TempDir()
			}
			ctx := context.Background()
			t0 := time.Now()
			db, err := Open(dir, &Options{InMemory: mem})
			require.NoError(t, err)
			st, err := db.Create(ctx, "s", Config{Shards: 4})
			require.NoError(t, err)
			t.Log("open+create", time.Since(t0))
			recs := make([]shardlog.Record, 500)
			for i := range recs {
				recs[i] = shardlog.Record{PartitionKey: fmt.Sprint(i), Data: []byte("x")}
			}
			res, err := st.PutRecords(ctx, recs)
			require.NoError(t, err)
			for i := range res {
				require.NoError(t, res[i].Err)
			}
			require.NoError(t, st.Reshard(ctx, 5))
			infos, err := st.Shards(ctx)
			require.NoError(t, err)
			require.Len(t, infos, 15)
			res, err = st.PutRecords(ctx, recs)
			require.NoError(t, err)
			n := 0
			for _, i := range infos {
				for _, err := range st.Records(ctx, i.ID, shardlog.TrimHorizon()) {
					require.NoError(t, err)
					n++
				}
			}
			require.Equal(t, 1000, n)
			t0 = time.Now()
			require.NoError(t, db.Close())
			t.Log("close", time.Since(t0))
			if !mem {
				t0 = time.Now()
				db, err := Open(dir, nil)
				require.NoError(t, err)
				t.Log("reopen", time.Since(t0))
				_, err = Open(dir, nil)
				require.ErrorIs(t, err, shardlog.ErrLocked)
				st, err := db.Stream(ctx, "s")
				require.NoError(t, err)
				n := 0
				for _, i := range infos {
					for _, err := range st.Records(ctx, i.ID, shardlog.TrimHorizon()) {
						require.NoError(t, err)
						n++
					}
				}
				require.Equal(t, 1000, n)
				require.NoError(t, db.Delete(ctx, "s"))
				require.NoError(t, db.Close())
			}
		})
	}
}
