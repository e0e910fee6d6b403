package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
)

// While a shard is paused nothing of it is delivered. It is kept, read ahead and
// checkpointed as usual; what is being handled ends first.
func ExampleConsumer_Pause() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 2)
	defer db.Close()

	started := make(chan struct{})
	c, err := consumer.New(orders, &consumer.Options{OnEvent: func(e consumer.Event) {
		if e.Kind == consumer.EventShardStarted {
			close(started)
		}
	}})
	if err != nil {
		panic(err)
	}
	shard := shardlog.ShardID(0)
	c.Pause(shard) // also before Run, and for a shard that another worker has now
	handled, ended := make(chan string, 2), make(chan error)
	go func() {
		ended <- c.Run(ctx, consumer.Each(func(_ context.Context, rec shardlog.Record) error {
			handled <- string(rec.Data)
			return nil
		}))
	}()
	<-started // the worker has the shard, and reads ahead
	fmt.Println("delivered while it is paused:", len(handled))
	c.Resume(shard)
	fmt.Println(<-handled, <-handled)
	if err := c.Shutdown(ctx); err != nil {
		panic(err)
	}
	fmt.Println(<-ended)
	// Output:
	// delivered while it is paused: 0
	// order 0 order 1
	// <nil>
}
