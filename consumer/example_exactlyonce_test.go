package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

// The handler's effect and its checkpoint are in one transaction, so each record
// has its effect exactly once, whatever fails. Here the effect is a record of
// another stream of the same database; with sqlcheckpoint it can be rows of a
// program's own tables.
func ExampleCheckpointIn() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 1, 2)
	defer db.Close()
	invoices, err := db.Ensure(ctx, "invoices", stream.Config{})
	if err != nil {
		panic(err)
	}

	c, err := consumer.New(orders, nil) // with the store of the stream's database
	if err != nil {
		panic(err)
	}
	err = c.Run(ctx, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		tx := db.Begin()
		for _, rec := range b.Records {
			tx.Put(invoices, shardlog.Record{PartitionKey: rec.PartitionKey, Data: append([]byte("invoice for "), rec.Data...)})
		}
		last := b.Records[len(b.Records)-1].Sequence
		if err := consumer.CheckpointIn(ctx, b, tx, shardlog.After(last)); err != nil {
			return err
		}
		if _, err := tx.Commit(ctx); err != nil {
			return err
		}
		return c.Shutdown(ctx)
	}))
	if err != nil {
		panic(err)
	}
	for rec, err := range invoices.Records(ctx, must(invoices.Shards(ctx))[0].ID, shardlog.TrimHorizon()) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s\n", rec.Data)
	}
	// Output:
	// invoice for order 0
	// invoice for order 1
}
