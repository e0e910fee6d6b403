package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A hot shard is divided at a hash key of one's choice: here at that of the key
// that most records have, so that it begins the second child's range.
func ExampleStream_Split() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	children, err := st.Split(ctx, shardlog.ShardID(0), shardlog.KeyHash("celebrity"))
	check(err)
	put, err := st.Put(ctx, shardlog.Record{PartitionKey: "celebrity"})
	check(err)
	fmt.Println(children, put.ShardID)
	// The zero HashKey means the middle.
	children, err = st.Split(ctx, children[0], shardlog.HashKey{})
	check(err)
	fmt.Println(children)
	// Output:
	// [shardId-000000000001 shardId-000000000002] shardId-000000000002
	// [shardId-000000000003 shardId-000000000004]
}
