package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Two adjacent shards that have become quiet continue as one.
func ExampleStream_Merge() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 2})
	check(err)
	before, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice"})
	check(err)
	child, err := st.Merge(ctx, shardlog.ShardID(0), shardlog.ShardID(1))
	check(err)
	after, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice"})
	check(err)
	fmt.Println(before.ShardID, after.ShardID, after.ShardID == child)
	fmt.Println("sequence numbers of a key grow:", before.Sequence.Compare(after.Sequence) < 0)
	// Output:
	// shardId-000000000000 shardId-000000000002 true
	// sequence numbers of a key grow: true
}
