package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const topic = "bench"

func cluster() *kfake.Cluster {
	return must(kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, topic)))
}

func kafkaClient(c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.NoCompression())}, opts...)...))
}

// fromStart are options for a client that reads everything.
func fromStart() []kgo.Opt {
	return []kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
}

// kafkaProduce does the same as produce, over loopback.
func kafkaProduce(sh shape) metrics {
	c := cluster()
	defer c.Close()
	m := newMaker(0, sh)
	rate := kafkaFill(c, m, asked(sh))
	verify(&kafkaLog{c: c, n: &counter{next: uint64(m.next)}}, []*maker{m})
	return metrics{"rate": rate}
}

// kafkaFill stores n records, and returns the rate of all but the first tenth.
func kafkaFill(c *kfake.Cluster, m *maker, n int) float64 {
	cl := kafkaClient(c)
	defer cl.Close()
	rs := make([]kgo.Record, 0, n)
	for _, r := range m.batch(n) {
		rs = append(rs, kgo.Record{Key: r.raw[:keySize], Value: r.data})
	}
	ctx := context.Background()
	var stored atomic.Int64
	done := func(_ *kgo.Record, err error) {
		check(err)
		stored.Add(1)
	}
	var start time.Time
	for i := range rs {
		if i == n/10 {
			check(cl.Flush(ctx))
			start = time.Now()
		}
		cl.Produce(ctx, &rs[i], done)
	}
	check(cl.Flush(ctx))
	rate := perSecond(n-n/10, start)
	if got := stored.Load(); got != int64(n) {
		panic(got)
	}
	return rate
}

// kafkaPutBy256 does the same as putBy256. A record does not linger for others:
// there are none to come from a goroutine that waits.
func kafkaPutBy256() metrics {
	c := cluster()
	defer c.Close()
	cl := kafkaClient(c, kgo.ProducerLinger(0))
	defer cl.Close()
	out, makers := by256(func(r *record) error {
		return cl.ProduceSync(context.Background(), &kgo.Record{Key: r.raw[:keySize], Value: r.data}).FirstErr()
	})
	n := 0
	for _, m := range makers {
		n += m.next
	}
	verify(&kafkaLog{c: c, n: &counter{next: uint64(n)}}, makers)
	return out
}

// kafkaConsume does the same as consume: in a group, which commits while it
// reads, or without one, which leaves less to do than a consumer of ours has.
func kafkaConsume(opts ...kgo.Opt) metrics {
	c := cluster()
	defer c.Close()
	m := newMaker(0, small)
	kafkaFill(c, m, asked(small))
	cl := kafkaClient(c, append(fromStart(), opts...)...)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	start, got, sum := time.Now(), 0, 0
	for got < m.next {
		f := cl.PollFetches(ctx)
		for _, e := range f.Errors() {
			check(e.Err)
		}
		f.EachRecord(func(r *kgo.Record) { got++; sum += numberIn(r.Value) })
	}
	rate := perSecond(m.next, start)
	m.checkSum(got, sum)
	return metrics{"rate": rate}
}
