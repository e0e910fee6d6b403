package producer_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// memoryStream is a stream of a database in memory, with a window for dedup IDs.
func memoryStream() (db *stream.DB, st *stream.Stream) {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		panic(err)
	}
	st, err = db.Create(context.Background(), "clicks", stream.Config{Shards: 4, DedupWindow: 5 * time.Minute})
	if err != nil {
		panic(err)
	}
	return db, st
}

// Records that come together are packed into one stored record, in KPL's format.
func ExampleAggregation() {
	db, st := memoryStream()
	defer db.Close()
	p, err := producer.New(st, &producer.Options{Aggregation: producer.Aggregation{Enabled: true}})
	if err != nil {
		panic(err)
	}
	var batch []shardlog.Record
	for i := range 3 {
		batch = append(batch, shardlog.Record{PartitionKey: "alice", Data: fmt.Append(nil, "click ", i)})
	}
	res, err := p.PutBatch(context.Background(), batch)
	for _, r := range res {
		fmt.Println(r.Sequence == res[0].Sequence, r.SubSequence, err)
	}
	stored := int64(0)
	for _, s := range st.Stats().Shards {
		stored += s.Records
	}
	fmt.Println(stored, "stored")
	_ = p.Shutdown(context.Background())
	// Output:
	// true 0 <nil>
	// true 1 <nil>
	// true 2 <nil>
	// 1 stored
}

// A producer with an identity stores each record once, and is fenced when
// another one takes the identity over.
func ExampleOptions_identity() {
	ctx := context.Background()
	db, st := memoryStream()
	defer db.Close()
	older, err := producer.New(st, &producer.Options{ID: "billing"})
	if err != nil {
		panic(err)
	}
	_, err = older.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("of the older")})
	fmt.Println(err)
	newer, err := producer.New(st, &producer.Options{ID: "billing"})
	if err != nil {
		panic(err)
	}
	_, err = newer.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("of the newer")})
	fmt.Println(err)
	_, err = older.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("too late")})
	fmt.Println(errors.Is(err, shardlog.ErrFenced))
	_, _ = older.Shutdown(ctx), newer.Shutdown(ctx)
	// Output:
	// <nil>
	// <nil>
	// true
}

// A record whose dedup ID was stored lately is not stored again.
func ExampleResult_duplicate() {
	ctx := context.Background()
	db, st := memoryStream()
	defer db.Close()
	p, err := producer.New(st, nil)
	if err != nil {
		panic(err)
	}
	order := shardlog.Record{PartitionKey: "alice", Data: []byte("2 apples"), DedupID: "order-17"}
	first, err := p.Put(ctx, order)
	fmt.Println(first.Duplicate, err)
	again, err := p.Put(ctx, order)
	fmt.Println(again.Duplicate, again.Sequence == first.Sequence, err)
	_ = p.Shutdown(ctx)
	// Output:
	// false <nil>
	// true true <nil>
}

// Records without a key are spread over the shards.
func ExampleOptions_spread() {
	ctx := context.Background()
	db, st := memoryStream()
	defer db.Close()
	p, err := producer.New(st, &producer.Options{Spread: true})
	if err != nil {
		panic(err)
	}
	shards := map[string]bool{}
	for range 40 {
		res, err := p.Put(ctx, shardlog.Record{Data: make([]byte, 16<<10)})
		if err != nil {
			panic(err)
		}
		shards[res.ShardID] = true
	}
	fmt.Println(len(shards) > 1)
	_ = p.Shutdown(ctx)
	// Output: true
}

// With limits, records wait in the producer, in order, instead of being refused
// by the sink.
func ExampleLimits() {
	p, err := producer.New(&memorySink{}, &producer.Options{Limits: producer.Limits{Records: 1000, Bytes: 1 << 20}})
	if err != nil {
		panic(err)
	}
	_, err = p.Put(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("signed in")})
	fmt.Println(err)
	_ = p.Shutdown(context.Background())
	// Output: <nil>
}

// Hooks see each request, for traces and metrics.
func ExampleHooks() {
	var requests atomic.Int64
	p, err := producer.New(&memorySink{}, &producer.Options{Hooks: producer.Hooks{
		Request: func(ctx context.Context, _ producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
			requests.Add(1)
			return ctx, nil
		},
	}})
	if err != nil {
		panic(err)
	}
	_, err = p.Put(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("signed in")})
	fmt.Println(requests.Load(), err)
	_ = p.Shutdown(context.Background())
	// Output: 1 <nil>
}
