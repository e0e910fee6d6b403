package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog/consumer"
)

// A batch that fails is halved until the record is alone that makes it fail, so
// that the others need not wait for its attempts. With Drop it is given up
// without a dead letter.
func ExampleOptions_bisect() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 4)
	defer db.Close()

	c, err := consumer.New(orders, &consumer.Options{
		Bisect: true, MaxAttempts: 2, Drop: true,
		Retry: consumer.Retry{Initial: time.Millisecond},
	})
	if err != nil {
		panic(err)
	}
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		fmt.Println(len(b.Records), "from", string(b.Records[0].Data), "on, attempt", b.Attempt)
		for _, rec := range b.Records {
			if string(rec.Data) == "order 1" {
				return errors.New("no such customer")
			}
		}
		if string(b.Records[len(b.Records)-1].Data) == "order 3" {
			return c.Shutdown(ctx)
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// 4 from order 0 on, attempt 1
	// 2 from order 0 on, attempt 1
	// 1 from order 0 on, attempt 1
	// 1 from order 1 on, attempt 1
	// 1 from order 1 on, attempt 2
	// 2 from order 2 on, attempt 1
	// <nil>
}
