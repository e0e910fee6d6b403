package producer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// A record that may wait a little for others costs less than one that goes
// alone. Flush sends what waits.
func ExampleOptions_linger() {
	p, err := producer.New(&memorySink{}, &producer.Options{Linger: time.Hour, MaxBatchRecords: 50})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	ctx := context.Background()
	for i := range 120 {
		if err := p.PutAsync(ctx, shardlog.Record{PartitionKey: fmt.Sprint("user-", i)}, nil); err != nil {
			panic(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		panic(err)
	}
	fmt.Println(p.Stats().Put, "records in", p.Stats().Requests, "requests")
	// Output: 120 records in 3 requests
}
