package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// Each handles records one by one. What was done before a failure is not
// repeated.
func ExampleEach() {
	src := newSource(1)
	src.put(0, 3)
	c, err := consumer.New(src, &consumer.Options{Store: checkpoint.NewMemory()})
	if err != nil {
		panic(err)
	}
	failed := false
	_ = c.Run(context.Background(), consumer.Each(func(ctx context.Context, rec shardlog.Record) error {
		if string(rec.Data) == "0/1" && !failed {
			failed = true
			fmt.Println("0/1 fails")
			return fmt.Errorf("not now")
		}
		fmt.Printf("%s\n", rec.Data)
		if string(rec.Data) == "0/2" {
			return c.Shutdown(ctx)
		}
		return nil
	}))
	// Output:
	// 0/0
	// 0/1 fails
	// 0/1
	// 0/2
}
