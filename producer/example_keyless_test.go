package producer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// Records without a partition key are spread over the shards.
func ExampleOptions_keyless() {
	p, err := producer.New(exampleStream(stream.Config{Shards: 2}), &producer.Options{Keyless: true})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	shards := map[string]bool{}
	for range 10 {
		res, err := p.Put(context.Background(), shardlog.Record{Data: make([]byte, 50_000)})
		if err != nil {
			panic(err)
		}
		shards[res.ShardID] = true
	}
	fmt.Println(len(shards), "shards")
	// Output: 2 shards
}
