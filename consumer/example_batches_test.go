package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// A loop in place of a handler. Asking for the next batch acknowledges the one
// before; a break shuts the consumer down.
func ExampleConsumer_Batches() {
	src := newSource(1) // any shardlog.Source, such as a stream
	src.put(0, 5)
	c, err := consumer.New(src, &consumer.Options{Store: checkpoint.NewMemory(), MaxBatchRecords: 2})
	if err != nil {
		panic(err)
	}
	for b, err := range c.Batches(context.Background()) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Printf("%d records from %s on\n", len(b.Records), b.Records[0].Data)
		if len(b.Records) == 1 {
			break
		}
	}
	// Output:
	// 2 records from 0/0 on
	// 2 records from 0/2 on
	// 1 records from 0/4 on
}
