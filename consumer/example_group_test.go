package consumer_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

// openOrders opens a stream with records, whose keys are spread over its
// shards.
func openOrders(ctx context.Context, shards, records int) (db *stream.DB, orders *stream.Stream) {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		panic(err)
	}
	if orders, err = db.Ensure(ctx, "orders", stream.Config{Shards: shards}); err != nil {
		panic(err)
	}
	for i := range records {
		if _, err := orders.Put(ctx, shardlog.Record{PartitionKey: fmt.Sprint("customer-", i), Data: fmt.Append(nil, "order ", i)}); err != nil {
			panic(err)
		}
	}
	return db, orders
}

// The workers of a group divide the shards of a stream among themselves, here in
// one process, usually in several. Progress is kept in the stream's own
// database.
func Example_group() {
	ctx := context.Background()
	db, orders := openOrders(ctx, 4, 40)
	defer db.Close()

	var mu sync.Mutex
	seen := map[string]int{}
	workers := make([]*consumer.Consumer, 2)
	var running sync.WaitGroup
	done := make(chan struct{})
	for i := range workers {
		w, err := consumer.New(orders, &consumer.Options{Group: "billing", WorkerID: fmt.Sprint("worker-", i)})
		if err != nil {
			panic(err)
		}
		workers[i] = w
		running.Go(func() {
			err := w.Run(ctx, consumer.Each(func(_ context.Context, rec shardlog.Record) error {
				mu.Lock()
				defer mu.Unlock()
				seen[string(rec.Data)]++
				if len(seen) == 40 && seen[string(rec.Data)] == 1 {
					close(done)
				}
				return nil
			}))
			if err != nil {
				panic(err)
			}
		})
	}
	<-done
	for _, w := range workers {
		if err := w.Shutdown(ctx); err != nil {
			panic(err)
		}
	}
	running.Wait()
	fmt.Println(len(seen), "orders billed")
	// Output: 40 orders billed
}
