package producer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// With a ShardRate, records wait here, in order, instead of being refused by the
// sink.
func ExampleShardRate() {
	p, err := producer.New(exampleStream(stream.Config{}), &producer.Options{ShardRate: producer.ShardRate{Records: 100}})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	for range 110 { // 100 may go without a pause
		if err := p.PutAsync(context.Background(), shardlog.Record{PartitionKey: "k"}, nil); err != nil {
			panic(err)
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(p.Stats().Put, "stored,", p.Stats().AllErrors, "refused")
	// Output: 110 stored, 0 refused
}
