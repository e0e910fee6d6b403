package producer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// memorySink is a Sink of one shard in memory; a stream.Stream is a real one.
type memorySink struct {
	mu   sync.Mutex
	data []string
}

func (s *memorySink) Shards(context.Context) ([]shardlog.ShardInfo, error) { return nil, nil }

func (s *memorySink) PutRecords(_ context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := make([]shardlog.PutResult, len(records))
	for i := range records {
		s.data = append(s.data, string(records[i].Data))
		res[i] = shardlog.PutResult{ShardID: "shardId-000000000000", Sequence: shardlog.NewSequenceNumber(1, 0, uint64(len(s.data)), 1)}
	}
	return res, nil
}

func ExampleProducer_Put() {
	p, err := producer.New(&memorySink{}, nil)
	if err != nil {
		panic(err)
	}
	defer p.Close()

	res, err := p.Put(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("signed in")})
	fmt.Println(res.ShardID, res.Sequence.Counter(), err)
	// Output: shardId-000000000000 1 <nil>
}

func ExampleProducer_PutAsync() {
	sink := &memorySink{}
	p, err := producer.New(sink, nil)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	for i := range 3 {
		r := shardlog.Record{PartitionKey: "alice", Data: fmt.Appendf(nil, "event %d", i)}
		err := p.PutAsync(ctx, r, func(res producer.Result, err error) {
			fmt.Println("stored as", res.Sequence.Counter(), err)
		})
		if err != nil {
			panic(err) // the record was not taken, and there is no callback
		}
	}
	if err := p.Shutdown(ctx); err != nil {
		panic(err)
	}
	fmt.Println(sink.data)
	// Output:
	// stored as 1 <nil>
	// stored as 2 <nil>
	// stored as 3 <nil>
	// [event 0 event 1 event 2]
}

func ExampleProducer_PutBatch() {
	p, err := producer.New(&memorySink{}, &producer.Options{MaxRecordSize: 20})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	res, err := p.PutBatch(context.Background(), []shardlog.Record{
		{PartitionKey: "alice", Data: []byte("in")},
		{PartitionKey: "bob", Data: []byte("in")},
	})
	fmt.Println(len(res), err)
	_, err = p.PutBatch(context.Background(), []shardlog.Record{
		{PartitionKey: "alice", Data: []byte("out")},
		{PartitionKey: "", Data: []byte("out")},
	})
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// shardlog: put: invalid records[1].PartitionKey "": must be at least 1 character
}

func ExampleProducer_TryPut() {
	p, err := producer.New(&memorySink{}, &producer.Options{BufferRecords: 1, Linger: time.Hour})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	fmt.Println(p.TryPut(shardlog.Record{PartitionKey: "alice"}, nil))
	err = p.TryPut(shardlog.Record{PartitionKey: "bob"}, nil)
	fmt.Println(err, errors.Is(err, producer.ErrBufferFull))
	// Output:
	// <nil>
	// shardlog: put: buffer full true
}

func ExampleProducer_Stats() {
	p, err := producer.New(&memorySink{}, &producer.Options{Linger: time.Hour})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	for range 5 {
		if err := p.PutAsync(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("hello")}, nil); err != nil {
			panic(err)
		}
	}
	fmt.Println(p.Stats().Pending, p.Stats().PendingBytes)
	if err := p.Flush(context.Background()); err != nil {
		panic(err)
	}
	s := p.Stats()
	fmt.Println(s.Put, "records in", s.Requests, "request;", s.Pending, "pending")
	// Output:
	// 5 50
	// 5 records in 1 request; 0 pending
}
