package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog"
)

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

// openBadger opens Badger with its defaults, except for the logger, the detection
// of conflicts, which a log does not need, and the syncs.
func openBadger(dir string, sync bool) *badger.DB {
	return must(badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithSyncWrites(sync).WithDetectConflicts(false).WithMetricsEnabled(false)))
}

// badgerKey is a record's key: its shard and number.
func badgerKey(shard int, n uint64) []byte {
	k := make([]byte, 0, 12)
	k = binary.BigEndian.AppendUint32(k, uint32(shard))
	return binary.BigEndian.AppendUint64(k, n)
}

// badgerBatches has writers append batches, one entry per record, until the time
// is over.
func badgerBatches(writers int, batch []shardlog.Record, d time.Duration) float64 {
	dir, cleanup := tempDir()
	defer cleanup()
	db := openBadger(dir, false)
	defer func() { check(db.Close()) }()
	var next atomic.Uint64
	return float64(len(batch)) * closedLoop(writers, d, func(int) {
		n := next.Add(uint64(len(batch)))
		wb := db.NewWriteBatch()
		for i := range batch {
			check(wb.Set(badgerKey(i&3, n+uint64(i)), batch[i].Data))
		}
		check(wb.Flush())
	})
}

// badgerSingles has writers store one record per transaction.
func badgerSingles(writers int, r shardlog.Record, sync bool, d time.Duration) float64 {
	dir, cleanup := tempDir()
	defer cleanup()
	db := openBadger(dir, sync)
	defer func() { check(db.Close()) }()
	var next atomic.Uint64
	return closedLoop(writers, d, func(w int) {
		n := next.Add(1)
		txn := db.NewTransaction(true)
		check(txn.Set(badgerKey(w&3, n), r.Data))
		check(txn.Commit())
	})
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

// fileBatches repeatedly writes n bytes in one call, with or without a sync.
func fileBatches(n int, records int, sync bool, d time.Duration) float64 {
	dir, cleanup := tempDir()
	defer cleanup()
	f := must(os.Create(dir + "/log"))
	defer f.Close()
	buf := make([]byte, n)
	for i := range buf {
		buf[i] = byte(rand.Uint32())
	}
	total, start := 0, time.Now()
	for time.Since(start) < d {
		must(f.Write(buf))
		if sync {
			check(datasync(f))
		}
		total += records
	}
	return float64(total) / time.Since(start).Seconds()
}
