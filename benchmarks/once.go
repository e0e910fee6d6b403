package main

import (
	"strconv"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// The ways of storing a record once, each compared with PutRecords of the same
// records.

// onceVsPlain runs writers that put batches of 500 records of 100 B. Each writer
// gets its own put function.
func onceVsPlain(writers int, way func(st *stream.Stream, db *stream.DB, w int) func(rs []shardlog.Record)) func(*report) {
	return func(r *report) {
		run := func(plain bool) float64 {
			dir, cleanup := tempDir()
			defer cleanup()
			db, st := openLog(dir, stream.SyncNever, 4, stream.Config{DedupWindow: time.Minute})
			defer func() { check(db.Close()) }()
			puts, batches := make([]func([]shardlog.Record), writers), make([][]shardlog.Record, writers)
			for w := range puts {
				batches[w] = records(500, 100)
				if puts[w] = func(rs []shardlog.Record) { put(st, rs) }; !plain {
					puts[w] = way(st, db, w)
				}
			}
			return 500 * closedLoop(writers, span(), func(w int) { puts[w](batches[w]) })
		}
		r.ratio("records/s", func() float64 { return run(false) }, func() float64 { return run(true) })
	}
}

// numbered returns put functions that each have an identity of their own.
func numbered(st *stream.Stream, _ *stream.DB, w int) func([]shardlog.Record) {
	id := strconv.Itoa(w)
	req := &shardlog.PutRequest{Producer: id, Epoch: must(st.OpenProducer(ctx, id)), Numbers: make([]uint64, 500)}
	return func(rs []shardlog.Record) {
		for i := range req.Numbers {
			req.Numbers[i] = req.Done + uint64(i)
		}
		req.Records = rs
		for _, r := range must(st.PutRequest(ctx, req)) {
			check(r.Err)
		}
		req.Done += 500
	}
}

func withIDs(st *stream.Stream, _ *stream.DB, w int) func([]shardlog.Record) {
	n := w << 40
	return func(rs []shardlog.Record) {
		for i := range rs {
			n++
			rs[i].DedupID = strconv.Itoa(n)
		}
		put(st, rs)
	}
}

func transactions(st *stream.Stream, db *stream.DB, _ int) func([]shardlog.Record) {
	return func(rs []shardlog.Record) {
		tx := db.Begin()
		tx.Put(st, rs...)
		must(tx.Commit(ctx))
	}
}
