package consumer_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/shardlog/shardlog/consumer"
)

// Several calls of the handler for one shard at a time, each with the records of
// one key: the order of each key is kept, and a slow key does not delay others.
func ExampleOptions_perKey() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 20)
	defer db.Close()

	c, err := consumer.New(orders, &consumer.Options{PerKey: 8})
	if err != nil {
		panic(err)
	}
	var handled atomic.Int64
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		for _, rec := range b.Records {
			if rec.PartitionKey != b.Records[0].PartitionKey {
				panic("a batch has one key")
			}
		}
		if handled.Add(int64(len(b.Records))) == 20 {
			return c.Shutdown(ctx)
		}
		return nil
	}))
	fmt.Println(handled.Load(), err)
	// Output: 20 <nil>
}
