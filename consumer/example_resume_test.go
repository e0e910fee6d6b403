package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// A group continues where it stopped.
func ExampleOptions_store() {
	src, progress := newSource(1), checkpoint.NewMemory()
	for range 2 {
		src.put(0, 2)
		c, err := consumer.New(src, &consumer.Options{Store: progress})
		if err != nil {
			panic(err)
		}
		_ = c.Run(context.Background(), consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			for _, rec := range b.Records {
				fmt.Printf("epoch %d: %s\n", b.Epoch, rec.Data)
			}
			return c.Shutdown(ctx)
		}))
	}
	// Output:
	// epoch 1: 0/0
	// epoch 1: 0/1
	// epoch 2: 0/2
	// epoch 2: 0/3
}
