package consumer_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
)

// Records that are not wanted are done without a call of the handler.
func ExampleOptions_filter() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 20)
	defer db.Close()

	c, err := consumer.New(orders, &consumer.Options{Filter: func(rec *shardlog.Record) bool {
		return strings.HasSuffix(string(rec.Data), "7")
	}})
	if err != nil {
		panic(err)
	}
	err = c.Run(ctx, consumer.Each(func(ctx context.Context, rec shardlog.Record) error {
		fmt.Printf("%s\n", rec.Data)
		if string(rec.Data) == "order 17" {
			return c.Shutdown(ctx)
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// order 7
	// order 17
	// <nil>
}
