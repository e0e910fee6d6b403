package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog/consumer"
)

// A consumer with a read throughput of its own, like an enhanced fan-out
// consumer of Kinesis: the read limits that other consumers share do not slow it
// down.
func ExampleOptions_fanOut() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 3)
	defer db.Close()

	c, err := consumer.New(orders, &consumer.Options{FanOut: true, FanOutRate: 2 << 20})
	if err != nil {
		panic(err)
	}
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		fmt.Println(len(b.Records), "records")
		return c.Shutdown(ctx)
	}))
	fmt.Println(err)
	// Output:
	// 3 records
	// <nil>
}
