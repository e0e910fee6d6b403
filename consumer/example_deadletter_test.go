package consumer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

// A record that cannot be handled goes to another stream after its attempts, and
// those after it are delivered. Permanent skips the attempts that cannot help.
func ExampleDeadLettersTo() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 3)
	defer db.Close()
	failed, err := db.Ensure(ctx, "orders-failed", stream.Config{})
	if err != nil {
		panic(err)
	}

	c, err := consumer.New(orders, &consumer.Options{
		Bisect: true, MaxAttempts: 3, DeadLetter: consumer.DeadLettersTo(failed),
	})
	if err != nil {
		panic(err)
	}
	err = c.Run(ctx, consumer.Each(func(ctx context.Context, rec shardlog.Record) error {
		if string(rec.Data) == "order 1" {
			return consumer.Permanent(errors.New("no such customer"))
		}
		fmt.Printf("billed %s\n", rec.Data)
		if string(rec.Data) == "order 2" {
			return c.Shutdown(ctx)
		}
		return nil
	}))
	if err != nil {
		panic(err)
	}
	for _, s := range must(failed.Shards(ctx)) {
		for rec, err := range failed.Records(ctx, s.ID, shardlog.TrimHorizon()) {
			if err != nil {
				panic(err)
			}
			fmt.Printf("dead letter: %s\n", rec.Data)
		}
	}
	// Output:
	// billed order 0
	// billed order 2
	// dead letter: order 1
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
