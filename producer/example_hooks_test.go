package producer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// OnRequest is where tracing and metrics attach.
func ExampleOptions_onRequest() {
	p, err := producer.New(&memorySink{}, &producer.Options{
		OnRequest: func(ctx context.Context, r producer.RequestInfo) (context.Context, func(producer.RequestOutcome)) {
			fmt.Println("begin:", r.Records, "records,", r.Bytes, "bytes") // start a span
			return ctx, func(o producer.RequestOutcome) {
				fmt.Println("end:", o.Failed, "failed,", o.Err) // end it
			}
		},
	})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	if _, err := p.Put(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("in")}); err != nil {
		panic(err)
	}
	// Output:
	// begin: 1 records, 7 bytes
	// end: 0 failed, <nil>
}
