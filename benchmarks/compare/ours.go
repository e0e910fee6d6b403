package main

import (
	"context"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// maxWriters is the largest number of writers of a work.
const maxWriters = 256

// ours is a stream, as a rival.
type ours struct {
	db *stream.DB
	st *stream.Stream
	// batches are what writers append from, so that they do not make a slice
	// for each call. As programs do, they give single records to Put.
	batches [maxWriters][]shardlog.Record
	lent    bool
}

func durability(sync bool) stream.Durability {
	if sync {
		return stream.SyncAlways
	}
	return stream.SyncNever
}

func openOurs(dir string, sync bool) rival { return openShards(dir, sync, 4) }

// openOursLent scans by reference.
func openOursLent(dir string, sync bool) rival {
	o := openShards(dir, sync, 4)
	o.lent = true
	return o
}

func openShards(dir string, sync bool, n int) *ours {
	db := must(stream.Open(dir, &stream.Options{Durability: durability(sync)}))
	return &ours{db: db, st: must(db.Ensure(context.Background(), "bench", stream.Config{Shards: n}))}
}

func (o *ours) append(writer int, batch []record) { o.appendTo(o.st, writer, batch) }

func (o *ours) appendTo(st *stream.Stream, writer int, batch []record) {
	ctx := context.Background()
	if len(batch) == 1 {
		r := &batch[0]
		must(st.Put(ctx, shardlog.Record{PartitionKey: r.key, ExplicitHashKey: r.hash, Data: r.data}))
		return
	}
	rs := o.batches[writer][:0]
	for i := range batch {
		r := &batch[i]
		rs = append(rs, shardlog.Record{PartitionKey: r.key, ExplicitHashKey: r.hash, Data: r.data})
	}
	o.batches[writer] = rs
	for _, r := range must(st.PutRecords(ctx, rs)) {
		check(r.Err)
	}
}

func (o *ours) scan(f func([]byte)) { o.scanOf(o.st, f) }

func (o *ours) scanOf(st *stream.Stream, f func([]byte)) {
	for _, info := range must(st.Shards(context.Background())) {
		if o.lent {
			byReference(st, info.ID, f)
			continue
		}
		for r, err := range st.Records(context.Background(), info.ID, shardlog.TrimHorizon()) {
			check(err)
			f(r.Data)
		}
	}
}

// byReference reads a shard in the quickest way that the log has, in which
// records are lent until the next one.
func byReference(st *stream.Stream, shard string, f func([]byte)) {
	for r, err := range st.Scan(context.Background(), shard, shardlog.TrimHorizon()) {
		check(err)
		f(r.Data)
	}
}

func (o *ours) close() { check(o.db.Close()) }
