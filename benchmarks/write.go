package main

import (
	"context"
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

func durability(sync bool) stream.Durability {
	if sync {
		return stream.SyncAlways
	}
	return stream.SyncNever
}

// span is the time that one side of a pair runs in one round.
func span() time.Duration { return time.Duration(pick(2000, 100)) * time.Millisecond }

func put(st *stream.Stream, rs []shardlog.Record) {
	for _, r := range must(st.PutRecords(ctx, rs)) {
		check(r.Err)
	}
}

// logBatches has writers append batches until the time is over.
func logBatches(writers int, batch []shardlog.Record, sync bool, d time.Duration) float64 {
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, durability(sync), 4, stream.Config{})
	defer func() { check(db.Close()) }()
	return float64(len(batch)) * closedLoop(writers, d, func(int) { put(st, batch) })
}

func appendBatches(writers, size int) func(*report) {
	return func(r *report) {
		batch := records(500, size)
		r.ratio("records/s",
			func() float64 { return logBatches(writers, batch, false, span()) },
			func() float64 { return badgerBatches(writers, batch, span()) })
	}
}

// appendVsFile compares the log with a file to which as many bytes are written in
// one call as the log stores for a batch.
func appendVsFile(size int, sync bool) func(*report) {
	return func(r *report) {
		batch := records(500, size)
		encoded := 4 * 64
		for i := range batch {
			encoded += batch[i].Size() + 4
		}
		r.ratio("records/s",
			func() float64 { return logBatches(1, batch, sync, span()) },
			func() float64 { return fileBatches(encoded, len(batch), sync, span()) })
	}
}

func singles(writers, size int, sync bool) func(*report) {
	return func(r *report) {
		rs := records(1024, size)
		r.ratio("records/s",
			func() float64 {
				dir, cleanup := tempDir()
				defer cleanup()
				db, st := openLog(dir, durability(sync), 4, stream.Config{})
				defer func() { check(db.Close()) }()
				return closedLoop(writers, span(), func(w int) {
					must(st.Put(ctx, rs[w&1023]))
				})
			},
			func() float64 { return badgerSingles(writers, rs[0], sync, span()) })
	}
}
