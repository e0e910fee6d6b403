package producer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

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
