package main

import (
	"context"
	"encoding/binary"
	"io"
	"os"
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
	cc := must(c.Consume(func(m jetstream.Msg) { got(m.Data()) }))
	<-ctx.Done()
	cc.Stop()
	<-cc.Closed()
}

func (k *kafkaLog) follow(ctx context.Context, got func([]byte)) {
	cl := kafkaClient(k.c, fromStart()...)
	defer cl.Close()
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got(r.Value) })
	}
}

// follow reads a file in the way of a program that is notified of an append: one
// read call for what has been added.
func (l *file) follow(ctx context.Context, got func([]byte)) {
	in := must(os.Open(l.f.Name()))
	defer in.Close()
	buf, have := make([]byte, 64<<10), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.grown:
		}
		n, err := in.Read(buf[have:])
		if err != io.EOF {
			check(err)
		}
		have += n
		at := 0
		for have-at >= 4 {
			size := int(binary.LittleEndian.Uint32(buf[at:]))
			if have-at < 4+size {
				break
			}
			got(buf[at+4 : at+4+size])
			at += 4 + size
		}
		have = copy(buf, buf[at:have])
	}
}

// handOver measures the time from the start of an append to the delivery of the
// record to a waiting reader. A record is appended every half millisecond.
func handOver(s system) metrics {
	dir, remove := tempDir()
	defer remove()
	r := s.open(dir, false)
	defer r.close()
	f := r.(follower)
	n := pick(2000, 100)
	warm := n / 20 // while the reader connects
	sent, took := make([]atomic.Int64, n), make([]time.Duration, n)
	begin := time.Now()
	var came atomic.Int64
	all := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		f.follow(ctx, func(v []byte) {
			i := numberIn(v[len(v)-small.size:])
			took[i] = time.Since(begin) - time.Duration(sent[i].Load())
			if came.Add(1) == int64(n) {
				close(all)
			}
		})
	})
	m := newMaker(0, small)
	for i := range n {
		b := m.batch(1)
		sent[i].Store(int64(time.Since(begin)))
		r.append(0, b)
		time.Sleep(500 * time.Microsecond)
	}
	select {
	case <-all:
	case <-time.After(patience):
		panic(s.name + ": records do not come")
	}
	cancel()
	wg.Wait()
	verify(r, []*maker{m})
	return metrics{"p50": percentile(took[warm:], 0.5), "p99": percentile(took[warm:], 0.99)}
}
