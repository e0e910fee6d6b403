package main

import (
	"context"
	"encoding/binary"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/shardlog/shardlog"
)

// follower is a rival that can deliver records to a waiting reader. The others
// have no means to wait for a record.
type follower interface {
	// follow calls got with each record, from the first one on, until ctx
	// ends. It may call got from several goroutines.
	follow(ctx context.Context, got func(value []byte))
}

func (o *ours) follow(ctx context.Context, got func([]byte)) {
	var wg sync.WaitGroup
	for _, info := range must(o.st.Shards(ctx)) {
		wg.Go(func() {
			for r, err := range o.st.Tail(ctx, info.ID, shardlog.TrimHorizon()) {
				if ctx.Err() != nil {
					return
				}
				check(err)
				got(r.Data)
			}
		})
	}
	wg.Wait()
}

func (j *jetLog) follow(ctx context.Context, got func([]byte)) {
	c := must(j.st.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{}))
	cc := must(c.Consume(func(m jetstream.Msg) { got(record(m.Data()).data()) }))
	<-ctx.Done()
	cc.Stop()
	<-cc.Closed()
}

func (k *kafkaLog) follow(ctx context.Context, got func([]byte)) {
	cl := must(kgo.NewClient(kgo.SeedBrokers(k.c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
	defer cl.Close()
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got(r.Value) })
	}
}

// handOver measures the time from the start of an append to the delivery of the
// record to a waiting reader, in microseconds. It returns zeros if the system has
// no such reader. A record is appended every half millisecond.
func handOver(s system) (p50, p99 float64) {
	dir := must(os.MkdirTemp(*dataDir, "compare-"))
	defer os.RemoveAll(dir)
	r := s.open(dir, s.unsynced == "")
	defer r.close()
	f, ok := r.(follower)
	if !ok {
		return 0, 0
	}
	n := 2000
	if *quick {
		n = 100
	}
	const warm = 50 // while the reader connects
	sent, took := make([]atomic.Int64, n), make([]time.Duration, n)
	begin := time.Now()
	var came atomic.Int64
	all := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		f.follow(ctx, func(value []byte) {
			i := binary.BigEndian.Uint64(value[2:])
			took[i] = time.Since(begin) - time.Duration(sent[i].Load())
			if came.Add(1) == int64(n) {
				close(all)
			}
		})
	})
	m := newMaker(0)
	for i := range n {
		b := m.batch(1)
		sent[i].Store(int64(time.Since(begin)))
		r.append(b)
		time.Sleep(500 * time.Microsecond)
	}
	select {
	case <-all:
	case <-time.After(patience):
		panic(s.name + ": records do not come")
	}
	cancel()
	wg.Wait()
	took = took[warm:]
	slices.Sort(took)
	at := func(p float64) float64 { return float64(took[int(float64(len(took)-1)*p)]) / 1e3 }
	return at(0.5), at(0.99)
}
