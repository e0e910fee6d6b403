package consumer_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// With Lanes a shard has several batches under way, each with keys of its own.
func ExampleOptions_lanes() {
	src := newSource(1)
	src.putKeys(0, 1000, 40)
	c, err := consumer.New(src, &consumer.Options{Store: checkpoint.NewMemory(), Lanes: 4})
	if err != nil {
		panic(err)
	}
	var done atomic.Int64
	_ = c.Run(context.Background(), consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		if done.Add(int64(len(b.Records))) == 1000 {
			return c.Shutdown(ctx)
		}
		return nil
	}))
	fmt.Println(done.Load(), "records")
	// Output:
	// 1000 records
}
