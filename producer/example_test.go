package producer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// memorySink is a Sink of one shard in memory; a stream.Stream is a real one.
type memorySink struct {
	mu   sync.Mutex
	data []string
}

// Capabilities say that the records of a key may be in one request.
func (s *memorySink) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{OrderedRequest: true}
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
	counter, _ := res.Sequence.Counter()
	fmt.Println(res.ShardID, counter, err)
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
			counter, _ := res.Sequence.Counter()
			fmt.Println("stored as", counter, err)
		})
		if err != nil {
			panic(err) // the record was not accepted, and there is no callback
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

// Aggregation packs records into stored ones, as the Kinesis Producer Library
// does.
func ExampleAggregation() {
	st := exampleStream(stream.Config{})
	p, err := producer.New(st, &producer.Options{
		Aggregation: producer.Aggregation{Enabled: true, MaxCount: 100},
		Linger:      time.Hour, // so that all is sent by Flush
	})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	for i := range 250 {
		r := shardlog.Record{PartitionKey: fmt.Sprint("user-", i%10), Data: []byte("clicked")}
		if err := p.PutAsync(context.Background(), r, nil); err != nil {
			panic(err)
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		panic(err)
	}
	s := p.Stats()
	fmt.Println(s.Put, "records in", s.Stored, "stored ones, up to", s.RecordsPerStored.Max)
	// Output: 250 records in 3 stored ones, up to 100
}

// With an identity, a record whose answer was lost is sent again and stored
// once; a second producer with the identity takes over.
func ExampleOptions_identity() {
	st := exampleStream(stream.Config{})
	ctx := context.Background()
	first, err := producer.New(st, &producer.Options{ID: "orders-1"})
	if err != nil {
		panic(err)
	}
	defer first.Close()
	_, err = first.Put(ctx, shardlog.Record{PartitionKey: "order-7", Data: []byte("paid")})
	fmt.Println("first:", err)

	second, err := producer.New(st, &producer.Options{ID: "orders-1"}) // as after a restart
	if err != nil {
		panic(err)
	}
	defer second.Close()
	_, err = second.Put(ctx, shardlog.Record{PartitionKey: "order-7", Data: []byte("sent")})
	fmt.Println("second:", err)
	_, err = first.Put(ctx, shardlog.Record{PartitionKey: "order-7", Data: []byte("late")})
	fmt.Println("first is fenced:", errors.Is(err, shardlog.ErrFenced))
	// Output:
	// first: <nil>
	// second: <nil>
	// first is fenced: true
}

// With a DedupID, copies of an event are stored once, also across restarts of
// the writer.
func ExampleProducer_Put_dedupID() {
	st := exampleStream(stream.Config{DedupWindow: time.Hour})
	p, err := producer.New(st, nil)
	if err != nil {
		panic(err)
	}
	defer p.Close()

	r := shardlog.Record{PartitionKey: "order-7", Data: []byte("paid"), DedupID: "payment-123"}
	first, err := p.Put(context.Background(), r)
	if err != nil {
		panic(err)
	}
	again, err := p.Put(context.Background(), r)
	fmt.Println(again.Duplicate, again.Sequence == first.Sequence, err)
	// Output: true true <nil>
}

// With a ShardRate, records wait here, in order, instead of being refused by the
// sink.
func ExampleShardRate() {
	p, err := producer.New(exampleStream(stream.Config{}), &producer.Options{ShardRate: producer.ShardRate{Records: 100}})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	start := time.Now()
	for range 110 { // 100 may go without a pause
		if err := p.PutAsync(context.Background(), shardlog.Record{PartitionKey: "k"}, nil); err != nil {
			panic(err)
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(time.Since(start) > 80*time.Millisecond, p.Stats().AllErrors)
	// Output: true 0
}

// Records without a partition key are spread over the shards.
func ExampleOptions_keyless() {
	p, err := producer.New(exampleStream(stream.Config{Shards: 2}), &producer.Options{Keyless: true})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	shards := map[string]bool{}
	for range 10 {
		res, err := p.Put(context.Background(), shardlog.Record{Data: make([]byte, 50_000)})
		if err != nil {
			panic(err)
		}
		shards[res.ShardID] = true
	}
	fmt.Println(len(shards), "shards")
	// Output: 2 shards
}

// OnRequest is where tracing and metrics attach.
func ExampleOptions_onRequest() {
	p, err := producer.New(&memorySink{}, &producer.Options{
		OnRequest: func(ctx context.Context, r producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
			fmt.Println("begin:", r.Records, "records,", r.Bytes, "bytes") // start a span
			return ctx, func(o producer.RequestOutcome) {
				fmt.Println("end:", o.Failed, "failed,", o.Err) // end it
			}
		},
	})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	if _, err := p.Put(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("in")}); err != nil {
		panic(err)
	}
	// Output:
	// begin: 1 records, 7 bytes
	// end: 0 failed, <nil>
}

// exampleStream makes a stream in memory.
func exampleStream(cfg stream.Config) *stream.Stream {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		panic(err)
	}
	st, err := db.Ensure(context.Background(), "events", cfg)
	if err != nil {
		panic(err)
	}
	return st
}
