package main

import (
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// aggregated compares a producer that aggregates with one that does not, over a
// stream of the same process: without limits, where it buys nothing, and with
// those of Kinesis, which count stored records.
func aggregated(limits stream.Limits) func(*report) {
	return func(r *report) {
		r.ratio("records/s",
			func() float64 {
				return putFor(limits, &producer.Options{Aggregation: producer.Aggregation{Enabled: true}})
			},
			func() float64 { return putFor(limits, nil) })
	}
}

// putFor puts 100 B records for a while and returns the rate of those stored.
func putFor(limits stream.Limits, opts *producer.Options) float64 {
	dir, cleanup := tempDir()
	defer cleanup()
	db, st := openLog(dir, stream.SyncNever, 4, stream.Config{Limits: limits})
	defer func() { check(db.Close()) }()
	p := must(producer.New(st, opts))
	defer p.Close()
	rs := records(1024, 100)
	var stored atomic.Int64
	done := func(_ producer.Result, err error) {
		if err == nil {
			stored.Add(1)
		}
	}
	start := time.Now()
	for i := 0; time.Since(start) < span(); i++ {
		// The buffer is full most of the time where the stream has limits.
		if err := p.TryPut(shardlog.Record{PartitionKey: rs[i&1023].PartitionKey, Data: rs[i&1023].Data}, done); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
	return float64(stored.Load()) / time.Since(start).Seconds()
}
