package repro_test

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/stream"
)

func TestCost(t *testing.T) {
	dir := os.Getenv("COST_DIR")
	gb := 5
	ctx := context.Background()
	o := &stream.Options{Durability: stream.SyncNever}
	if _, err := os.Stat(dir); err != nil {
		db, err := stream.Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		st, _ := db.Create(ctx, "s", stream.Config{Shards: 4, Retention: 1000 * time.Hour})
		recs := make([]shardlog.Record, 100)
		for i := range recs {
			recs[i] = shardlog.Record{PartitionKey: string(rune('a' + i%26)), Data: bytes.Repeat([]byte("x"), 10<<10)}
		}
		for range gb << 10 {
			if _, err := st.PutRecords(ctx, recs); err != nil {
				t.Fatal(err)
			}
		}
		db.Close()
	}
	for range 3 {
		b := time.Now()
		r, err := badgerfile.Inspect(dir, nil, false)
		t.Log("inspect", time.Since(b), err, len(r.Dir.Tables), len(r.Dir.Values), r.Errors())
		b = time.Now()
		db, err := stream.Open(dir, o)
		t.Log("open", time.Since(b), err)
		b = time.Now()
		db.Close()
		t.Log("close", time.Since(b))
	}
}
