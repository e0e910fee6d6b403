package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

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
