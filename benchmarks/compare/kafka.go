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

// kafkaProduce does the same as produce with franz-go's client and its fake
// broker, over loopback.
func kafkaProduce(size int) float64 {
	c := cluster()
	defer c.Close()
	r, _ := kafkaFill(c, size)
	return r
}

func kafkaFill(c *kfake.Cluster, size int) (float64, int) {
	cl := must(kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression())))
	defer cl.Close()
	ctx, n, data := context.Background(), records(size), make([]byte, size)
	var stored atomic.Int64
	start := time.Now()
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Key: keys[i%len(keys)], Value: data}, func(_ *kgo.Record, err error) {
			check(err)
			stored.Add(1)
		})
	}
	check(cl.Flush(ctx))
	r := rate(n, start)
	if got := stored.Load(); got != int64(n) {
		panic(got)
	}
	return r, n
}

// kafkaConsume does the same as consume, with a group that commits while it reads.
func kafkaConsume(size int) float64 {
	c := cluster()
	defer c.Close()
	_, n := kafkaFill(c, size)
	cl := must(kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
	defer cl.Close()
	start, got := time.Now(), 0
	for got < n {
		f := cl.PollFetches(context.Background())
		for _, e := range f.Errors() {
			check(e.Err)
		}
		f.EachRecord(func(*kgo.Record) { got++ })
	}
	return rate(n, start)
}
