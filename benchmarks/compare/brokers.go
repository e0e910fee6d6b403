package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// jetLog is JetStream inside the process, without a socket.
type jetLog struct {
	srv *server.Server
	nc  *nats.Conn
	js  jetstream.JetStream
	st  jetstream.Stream
}

func openJetStreamFile(dir string, sync bool) rival {
	return openJetStream(dir, sync, jetstream.FileStorage)
}

func openJetStreamMemory(dir string, sync bool) rival {
	return openJetStream(dir, sync, jetstream.MemoryStorage)
}

func openJetStream(dir string, sync bool, kind jetstream.StorageType) rival {
	s := must(server.NewServer(&server.Options{ServerName: "bench", DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: sync, NoLog: true, NoSigs: true}))
	s.Start()
	if !s.ReadyForConnections(patience) {
		panic("nats-server does not start")
	}
	nc := must(nats.Connect("", nats.InProcessServer(s)))
	js := must(jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(16_000)))
	st := must(js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "BENCH", Subjects: []string{"bench"}, Storage: kind}))
	return &jetLog{s, nc, js, st}
}

func (j *jetLog) append(_ int, batch []record) {
	if len(batch) == 1 {
		must(j.js.Publish(context.Background(), "bench", batch[0].raw))
		return
	}
	acks := make([]jetstream.PubAckFuture, len(batch))
	for i, r := range batch {
		acks[i] = must(j.js.PublishAsync("bench", r.raw))
	}
	for _, a := range acks {
		select {
		case <-a.Ok():
		case err := <-a.Err():
			check(err)
		}
	}
}

func (j *jetLog) scan(f func([]byte)) {
	ctx := context.Background()
	want := must(j.st.Info(ctx)).State.Msgs
	c := must(j.st.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{}))
	for got := uint64(0); got < want; {
		b := must(c.Fetch(5000, jetstream.FetchMaxWait(patience)))
		for m := range b.Messages() {
			f(m.Data())
			if got++; got == want {
				break
			}
		}
		check(b.Error())
	}
}

func (j *jetLog) close() {
	j.nc.Close()
	j.srv.Shutdown()
	j.srv.WaitForShutdown()
}

// kafkaLog is franz-go's client and its fake broker, over loopback.
type kafkaLog struct {
	c  *kfake.Cluster
	cl *kgo.Client
	n  *counter
}

func openKafka(string, bool) rival {
	c := cluster()
	cl := kafkaClient(c, kgo.ProducerLinger(0))
	return &kafkaLog{c, cl, &counter{}}
}

func (k *kafkaLog) append(_ int, batch []record) {
	rs := make([]*kgo.Record, len(batch))
	for i, r := range batch {
		rs[i] = &kgo.Record{Key: r.raw[:keySize], Value: r.data}
	}
	check(k.cl.ProduceSync(context.Background(), rs...).FirstErr())
	k.n.take(len(batch))
}

func (k *kafkaLog) scan(f func([]byte)) {
	cl := kafkaClient(k.c, fromStart()...)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for got := uint64(0); got < k.n.next; {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			check(fmt.Errorf("fetch: %w", e.Err))
		}
		fetches.EachRecord(func(r *kgo.Record) { got++; f(r.Value) })
	}
}

func (k *kafkaLog) close() {
	k.cl.Close()
	k.c.Close()
}
