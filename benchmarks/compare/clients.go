package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// clientWorks compare the producer and the consumer with franz-go's client and
// its fake broker.
func clientWorks() (all []work) {
	for _, sh := range []shape{small, large} {
		all = append(all, work{"PutAsync" + sh.String(), []side{
			{us, func() metrics { return produce(sh) }},
			{franz, func() metrics { return kafkaProduce(sh) }},
		}})
	}
	return append(all,
		work{"Put by 256", []side{{us, putBy256}, {franz, kafkaPutBy256}}},
		work{"consume", []side{
			{us, consume},
			{franz, func() metrics { return kafkaConsume() }},
			{franz + ", in a group", func() metrics { return kafkaConsume(kgo.ConsumerGroup("compare")) }},
		}})
}

// asked is the number of records that a client puts or reads.
func asked(sh shape) int { return pick(100_000_000/sh.size, 10_000) }

// openClient opens a stream of four shards for a client.
func openClient() (o *ours, closeAll func()) {
	dir, remove := tempDir()
	o = openShards(dir, false, 4)
	return o, func() {
		o.close()
		remove()
	}
}

// produce puts records one by one through a producer, and waits until all are
// acknowledged.
func produce(sh shape) metrics {
	o, closeAll := openClient()
	defer closeAll()
	ctx, n := context.Background(), asked(sh)
	rs, m := make([]shardlog.Record, 0, n), newMaker(0, sh)
	for _, r := range m.batch(n) {
		rs = append(rs, shardlog.Record{PartitionKey: r.key, Data: r.data})
	}
	p := must(producer.New(o.st, nil))
	var stored atomic.Int64
	done := func(_ producer.Result, err error) {
		check(err)
		stored.Add(1)
	}
	var start time.Time
	for i, r := range rs {
		if i == n/10 { // buffers and files are there then
			check(p.Flush(ctx))
			start = time.Now()
		}
		check(p.PutAsync(ctx, r, done))
	}
	check(p.Shutdown(ctx))
	rate := perSecond(n-n/10, start)
	if got := stored.Load(); got != int64(n) {
		panic(got)
	}
	verify(o, []*maker{m})
	return metrics{"rate": rate}
}

// putBy256 has 256 goroutines put a record each, and wait for its result before
// the next one.
func putBy256() metrics {
	o, closeAll := openClient()
	defer closeAll()
	p := must(producer.New(o.st, nil))
	out, makers := by256(func(r *record) error {
		_, err := p.Put(context.Background(), shardlog.Record{PartitionKey: r.key, Data: r.data})
		return err
	})
	check(p.Shutdown(context.Background()))
	verify(o, makers)
	return out
}

func by256(put func(*record) error) (metrics, []*maker) {
	makers, times := make([]*maker, 256), make([][]time.Duration, 256)
	for i := range makers {
		makers[i] = newMaker(i, small)
		makers[i].slab = 50
	}
	d, _ := bounds()
	var wg sync.WaitGroup
	start := time.Now()
	for i, m := range makers {
		wg.Go(func() {
			for t := start; m.next == 0 || t.Sub(start) < d; {
				check(put(&m.batch(1)[0]))
				end := time.Now()
				times[i] = append(times[i], end.Sub(t))
				t = end
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	var all []time.Duration
	for _, t := range times {
		all = append(all, t...)
	}
	return metrics{"rate": float64(len(all)) / took.Seconds(), "p50": percentile(all, 0.5), "p99": percentile(all, 0.99)}, makers
}

// consume reads all of a stream through a consumer that checkpoints each batch.
func consume() metrics {
	o, closeAll := openClient()
	defer closeAll()
	m := newMaker(0, small)
	for m.next < asked(small) {
		o.append(0, m.batch(500))
	}
	return metrics{"rate": consumeAll(o.st, m)}
}

func consumeAll(st *stream.Stream, m *maker) float64 {
	c := must(consumer.New(st, nil))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var got, sum atomic.Int64
	all := make(chan struct{})
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			part := 0
			for i := range b.Records {
				part += numberIn(b.Records[i].Data)
			}
			sum.Add(int64(part))
			if got.Add(int64(len(b.Records))) == int64(m.next) {
				close(all)
			}
			return nil
		}))
	}()
	select {
	case <-all:
	case <-time.After(deadline):
		panic("records do not come")
	}
	rate := perSecond(m.next, start)
	check(c.Shutdown(context.Background()))
	check(<-done)
	m.checkSum(int(got.Load()), int(sum.Load()))
	return rate
}
