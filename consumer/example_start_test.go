package consumer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
)

// Where a group begins that has no progress yet: here with what arrived within
// the last hour. A group that has progress continues there.
func ExampleOptions_start() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 3)
	defer db.Close()

	c, err := consumer.New(orders, &consumer.Options{
		Group: "dashboard", Start: shardlog.AtTime(time.Now().Add(-time.Hour)), // or Latest
	})
	if err != nil {
		panic(err)
	}
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		fmt.Println(len(b.Records), "records")
		return c.Shutdown(ctx)
	}))
	fmt.Println(err)
	// Output:
	// 3 records
	// <nil>
}
