package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/shardlog/shardlog/stream"
)

// manyShards appends batches of 500, by one writer, to a stream of n shards.
func manyShards(n int) metrics {
	dir, remove := tempDir()
	defer remove()
	o := openShards(dir, false, n)
	// As many keys as fill all shards.
	keys = nil
	for i := range 20_000 {
		keys = append(keys, fmt.Sprintf("key-%012d", i))
	}
	m := newMaker(0, small)
	total := pick(500_000, 5_000)
	var start time.Time
	for m.next < total {
		if m.next == total/5 { // files and buffers are there then
			start = time.Now()
		}
		o.append(0, m.batch(500))
	}
	out := metrics{"rate": perSecond(total-total/5, start), "heapMB": heapMB(), "peakMB": peakMB()}
	verify(o, []*maker{m})
	o.close()
	return out
}

// manyStreams appends batches of 500, by one writer, to each of n streams in
// turn, and at last a single record to each.
func manyStreams(n int) metrics {
	ctx := context.Background()
	dir, remove := tempDir()
	defer remove()
	db := must(stream.Open(dir, &stream.Options{Durability: stream.SyncNever}))
	streams, makers := make([]*stream.Stream, n), make([]*maker, n)
	begin := time.Now()
	for i := range streams {
		streams[i] = must(db.Create(ctx, fmt.Sprint("s", i), stream.Config{}))
		makers[i] = newMaker(0, small)
		makers[i].slab = 500
	}
	created := time.Since(begin)
	o := &ours{db: db}
	total := pick(1_500_000, 75_000)
	var start time.Time
	for k := 0; k < total; k += 500 {
		if k == total/3 { // each has got a batch
			start = time.Now()
		}
		i := k / 500 % n
		o.appendTo(streams[i], 0, makers[i].batch(500))
	}
	rate := perSecond(total-total/3, start)
	for i, st := range streams {
		makers[i].slab = 1
		makers[i].ready = nil
		o.appendTo(st, 0, makers[i].batch(1))
		makers[i].ready = nil
	}
	out := metrics{"rate": rate, "heapMB": heapMB(), "peakMB": peakMB(), "created": millis(created) / float64(n)}
	for i, st := range streams {
		verify(&ours{db: db, st: st}, makers[i:i+1])
	}
	check(db.Close())
	return out
}

// idle measures what a database costs that is open and has nothing to do, and how
// long it takes to open and close: a new one, and one that has records.
func idle(s system) metrics {
	var fresh, existing, heap []float64
	for range pick(7, 1) {
		dir, remove := tempDir()
		dir = filepath.Join(dir, "data")
		start := time.Now()
		s.open(mkdir(dir), true).close()
		fresh = append(fresh, millis(time.Since(start)))

		r, m := s.open(dir, true), newMaker(0, small)
		for range 20 {
			r.append(0, m.batch(500))
		}
		verify(r, []*maker{m})
		r.close()
		m = nil
		before := heapMB()
		start = time.Now()
		r = s.open(dir, true)
		took := time.Since(start)
		time.Sleep(time.Duration(pick(100, 1)) * time.Millisecond) // what opening began
		heap = append(heap, heapMB()-before)
		start = time.Now()
		r.close()
		existing = append(existing, millis(took+time.Since(start)))
		remove()
	}
	return metrics{"new": median(fresh), "existing": median(existing), "heapMB": median(heap)}
}
