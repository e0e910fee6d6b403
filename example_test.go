package shardlog_test

import (
	"context"
	"fmt"
	"os"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// The quick start of the package's page: a program that is run twice on one
// directory. The second run writes more, and its consumer continues where the
// first one's stopped.
func Example() {
	dir, err := os.MkdirTemp("", "shardlog")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	for range 2 {
		if err := run(dir); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// 3 records stored
	// 1 apple
	// 2 apples
	// 3 apples
	// 3 records stored
	// 1 apple
	// 2 apples
	// 3 apples
}

func run(dir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	db, err := stream.Open(dir, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	orders, err := db.Ensure(ctx, "orders", stream.Config{Shards: 4})
	if err != nil {
		return err
	}

	p, err := producer.New(orders, nil)
	if err != nil {
		return err
	}
	for _, data := range []string{"1 apple", "2 apples", "3 apples"} {
		r := shardlog.Record{PartitionKey: "customer-17", Data: []byte(data)}
		if err := p.PutAsync(ctx, r, nil); err != nil {
			return err
		}
	}
	if err := p.Shutdown(ctx); err != nil { // everything has its result now
		return err
	}
	fmt.Println(p.Stats().Put, "records stored")

	c, err := consumer.New(orders, &consumer.Options{Group: "billing"})
	if err != nil {
		return err
	}
	seen := 0
	return c.Run(ctx, consumer.Each(func(_ context.Context, r shardlog.Record) error {
		fmt.Println(string(r.Data))
		if seen++; seen == 3 {
			cancel() // Run finishes the batch, checkpoints and returns
		}
		return nil
	}))
}
