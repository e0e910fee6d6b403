package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Tail reads like Records and then waits for new records, until the loop ends,
// its context ends, or the shard is closed.
func ExampleStream_Tail() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	put, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("before")})
	check(err)

	for r, err := range st.Tail(ctx, put.ShardID, shardlog.TrimHorizon()) {
		check(err)
		fmt.Printf("%s\n", r.Data)
		if string(r.Data) == "after" {
			break
		}
		_, err = st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("after")})
		check(err)
	}
	// Output:
	// before
	// after
}
