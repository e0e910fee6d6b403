package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Many records are stored by one call, each on the shard of its key.
func ExampleStream_PutRecords() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 4})
	check(err)
	records := []shardlog.Record{
		{PartitionKey: "alice", Data: []byte("1")},
		{PartitionKey: "bob", Data: []byte("2")},
		{PartitionKey: "alice", Data: []byte("3")},
	}
	results, err := st.PutRecords(ctx, records)
	check(err)
	for i, res := range results {
		check(res.Err)
		fmt.Println(records[i].PartitionKey, res.ShardID)
	}
	// Output:
	// alice shardId-000000000001
	// bob shardId-000000000002
	// alice shardId-000000000001
}
