package consumer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/producer"
)

// Records that a producer packed into one are delivered one by one. They share
// its sequence number and differ in SubSequence; a checkpoint may be between
// them.
func ExampleBatch_After() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 0)
	defer db.Close()
	p, err := producer.New(orders, &producer.Options{Aggregation: producer.Aggregation{Enabled: true}, Linger: time.Hour})
	if err != nil {
		panic(err)
	}
	for i := range 3 {
		if err := p.PutAsync(ctx, shardlog.Record{PartitionKey: fmt.Sprint("customer-", i)}, nil); err != nil {
			panic(err)
		}
	}
	if err := p.Shutdown(ctx); err != nil {
		panic(err)
	}

	c, err := consumer.New(orders, &consumer.Options{ExplicitCheckpoints: true, ShutdownTimeout: time.Millisecond})
	if err != nil {
		panic(err)
	}
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		for _, rec := range b.Records {
			fmt.Println(rec.PartitionKey, rec.SubSequence, rec.Sequence == b.Records[0].Sequence)
		}
		if err := b.Checkpoint(ctx, b.After(len(b.Records)-1)); err != nil {
			return err
		}
		return c.Shutdown(ctx)
	}))
	fmt.Println(err)
	// Output:
	// customer-0 0 true
	// customer-1 1 true
	// customer-2 2 true
	// <nil>
}
