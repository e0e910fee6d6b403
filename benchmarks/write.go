package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

var ctx = context.Background()

// openLog opens a database with a stream of n shards.
func openLog(dir string, d stream.Durability, shards int, cfg stream.Config) (*stream.DB, *stream.Stream) {
	db := must(stream.Open(dir, &stream.Options{Durability: d}))
	cfg.Shards = shards
	cfg.MaxRecordSize = shardlog.MaxRecordSize
	return db, must(db.Create(ctx, "bench", cfg))
}

// span is the time that one side of a pair runs in one round.
func span() time.Duration { return time.Duration(pick(2000, 100)) * time.Millisecond }

func put(st *stream.Stream, rs []shardlog.Record) {
	for _, r := range must(st.PutRecords(ctx, rs)) {
		check(r.Err)
	}
}

// logBatches has writers append batches until the time is over.
func logBatches(writers int, batch []shardlog.Record, d time.Duration) float64 {
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, stream.SyncNever, 4, stream.Config{})
	defer func() { check(db.Close()) }()
	return float64(len(batch)) * closedLoop(writers, d, func(int) { put(st, batch) })
}

// records returns n records with 16-byte keys and incompressible data.
func records(n, size int) []shardlog.Record {
	rnd := rand.New(rand.NewPCG(1, 2))
	rs := make([]shardlog.Record, n)
	for i := range rs {
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(rnd.Uint32())
		}
		rs[i] = shardlog.Record{PartitionKey: fmt.Sprintf("key-%012d", i), Data: data}
	}
	return rs
}

// closedLoop calls f in a loop in each of several goroutines, and returns the
// calls a second.
func closedLoop(writers int, d time.Duration, f func(w int)) float64 {
	var calls atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	deadline := start.Add(d)
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			n := int64(0)
			// Reading the clock costs as much as a small write.
			for often := int64(1); n%often != 0 || time.Now().Before(deadline); n++ {
				if n == 64 && time.Since(start) < d/100 {
					often = 16
				}
				f(w)
			}
			calls.Add(n)
		}()
	}
	wg.Wait()
	return float64(calls.Load()) / time.Since(start).Seconds()
}
