package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// A consumer delivers what is in the stream, and what is added while it runs,
// until it is stopped.
func ExampleConsumer_Run() {
	src := newSource(1) // any shardlog.Source, such as a stream
	src.put(0, 3)

	c, err := consumer.New(src, &consumer.Options{Group: "billing", Store: checkpoint.NewMemory()})
	if err != nil {
		panic(err)
	}
	err = c.Run(context.Background(), consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		for _, rec := range b.Records {
			fmt.Printf("%s of %s\n", rec.Data, b.ShardID)
		}
		return c.Shutdown(ctx) // usually called from elsewhere
	}))
	fmt.Println("error:", err)
	// Output:
	// 0/0 of shardId-000000000000
	// 0/1 of shardId-000000000000
	// 0/2 of shardId-000000000000
	// error: <nil>
}
