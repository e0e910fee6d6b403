package consumer_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/shardlog/shardlog/consumer"
)

// A handler that collects records, and checkpoints once they are stored
// elsewhere, learns from Leaving that the shard is about to be given back. The
// consumer waits until everything delivered is covered, so nothing is delivered
// again.
func ExampleBatch_Leaving() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 3)
	defer db.Close()

	c, err := consumer.New(orders, &consumer.Options{ExplicitCheckpoints: true})
	if err != nil {
		panic(err)
	}
	var flushing sync.WaitGroup
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		leaving := b.Leaving() // asked for during the call, so that the consumer waits
		flushing.Go(func() {
			<-leaving // or when enough is collected
			fmt.Println("storing", len(b.Records), "records")
			if err := b.Checkpoint(context.WithoutCancel(ctx), b.After(len(b.Records)-1)); err != nil {
				fmt.Println(err)
			}
		})
		return c.Shutdown(ctx)
	}))
	flushing.Wait()
	fmt.Println(err)
	// Output:
	// storing 3 records
	// <nil>
}
