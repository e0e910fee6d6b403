package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
)

// Seek moves a shard that is being read: here back to its beginning, to handle
// everything a second time. Pause keeps records from the handler meanwhile.
func ExampleConsumer_Seek() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 2)
	defer db.Close()

	c, err := consumer.New(orders, nil)
	if err != nil {
		panic(err)
	}
	handled := make(chan string)
	ended := make(chan error)
	go func() {
		ended <- c.Run(ctx, consumer.Each(func(_ context.Context, rec shardlog.Record) error {
			handled <- string(rec.Data)
			return nil
		}))
	}()
	fmt.Println(<-handled, <-handled)

	shard := must(orders.Shards(ctx))[0].ID
	c.Pause(shard)
	if err := c.Seek(ctx, shard, shardlog.TrimHorizon()); err != nil {
		panic(err)
	}
	c.Resume(shard)
	fmt.Println(<-handled, <-handled)

	if err := c.Shutdown(ctx); err != nil {
		panic(err)
	}
	fmt.Println(<-ended)
	// Output:
	// order 0 order 1
	// order 0 order 1
	// <nil>
}
