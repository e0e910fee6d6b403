package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// A consumer delivers what is in the stream, and what is added while it runs,
// until it is stopped.
func ExampleConsumer_Run() {
	src := newSource(1) // any shardlog.Source, such as a stream
	src.put(0, 3)

	c, err := consumer.New(src, &consumer.Options{Group: "billing", Store: checkpoint.NewMemory()})
	if err != nil {
		panic(err)
	}
	err = c.Run(context.Background(), consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		for _, rec := range b.Records {
			fmt.Printf("%s of %s\n", rec.Data, b.ShardID)
		}
		return c.Shutdown(ctx) // usually called from elsewhere
	}))
	fmt.Println("error:", err)
	// Output:
	// 0/0 of shardId-000000000000
	// 0/1 of shardId-000000000000
	// 0/2 of shardId-000000000000
	// error: <nil>
}

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

// JSON decodes each record. One that cannot be decoded is a dead letter
// immediately; one that fails is tried as often as MaxAttempts says.
func ExampleJSON() {
	type order struct{ Item string }
	src := newSource(1)
	src.putData(0, []byte(`{"Item":"tea"}`), []byte(`{`), []byte(`{"Item":"bread"}`))
	c, err := consumer.New(src, &consumer.Options{
		Store:       checkpoint.NewMemory(),
		MaxAttempts: 5,
		DeadLetter: func(_ context.Context, d consumer.DeadLetter) error {
			fmt.Printf("dead letter: %s\n", d.Record.Data)
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	_ = c.Run(context.Background(), consumer.JSON(func(ctx context.Context, o order, _ shardlog.Record) error {
		fmt.Println(o.Item)
		if o.Item == "bread" {
			return c.Shutdown(ctx)
		}
		return nil
	}))
	// Output:
	// tea
	// dead letter: {
	// bread
}
