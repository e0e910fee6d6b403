package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A record goes to the shard whose range has its hash key: the MD5 of its
// partition key, or the explicit hash key that it gives in place of that.
func ExampleStream_Put_explicitHashKey() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 4})
	check(err)
	shards, err := st.Shards(ctx)
	check(err)
	for _, s := range shards { // a marker for every shard, such as the end of a day
		put, err := st.Put(ctx, shardlog.Record{PartitionKey: "marker", ExplicitHashKey: s.HashStart})
		check(err)
		fmt.Println(put.ShardID)
	}
	// Output:
	// shardId-000000000000
	// shardId-000000000001
	// shardId-000000000002
	// shardId-000000000003
}
