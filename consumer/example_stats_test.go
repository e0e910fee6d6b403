package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog/consumer"
)

// Events report what happens, figures show how far each shard is.
func ExampleOptions_onEvent() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 3)
	defer db.Close()

	c, err := consumer.New(orders, &consumer.Options{OnEvent: func(e consumer.Event) {
		if e.Kind == consumer.EventShardStarted {
			fmt.Println(e.Kind, e.ShardID)
		}
	}})
	if err != nil {
		panic(err)
	}
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		return c.Shutdown(ctx)
	}))
	fmt.Println(err)
	for _, s := range c.Stats().Shards {
		fmt.Println(s.ShardID, s.Delivered, "records handled")
	}
	// Output:
	// shard started shardId-000000000000
	// <nil>
	// shardId-000000000000 3 records handled
}
