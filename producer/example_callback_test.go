package producer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

func ExampleProducer_PutAsync() {
	sink := &memorySink{}
	p, err := producer.New(sink, nil)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	for i := range 3 {
		r := shardlog.Record{PartitionKey: "alice", Data: fmt.Appendf(nil, "event %d", i)}
		err := p.PutAsync(ctx, r, func(res producer.Result, err error) {
			counter, _ := res.Sequence.Counter()
			fmt.Println("stored as", counter, err)
		})
		if err != nil {
			panic(err) // the record was not accepted, and there is no callback
		}
	}
	if err := p.Shutdown(ctx); err != nil {
		panic(err)
	}
	fmt.Println(sink.data)
	// Output:
	// stored as 1 <nil>
	// stored as 2 <nil>
	// stored as 3 <nil>
	// [event 0 event 1 event 2]
}
