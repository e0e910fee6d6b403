package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Headers accompany the data of a record: a trace ID, a content type.
func ExampleStream_Put_headers() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	put, err := st.Put(ctx, shardlog.Record{
		PartitionKey: "alice", Data: []byte("/index.html"),
		Headers: []shardlog.Header{{Key: "trace", Value: "17"}},
	})
	check(err)
	for r, err := range st.Records(ctx, put.ShardID, shardlog.TrimHorizon()) {
		check(err)
		fmt.Printf("%s %s=%s\n", r.Data, r.Headers[0].Key, r.Headers[0].Value)
	}
	// Output: /index.html trace=17
}
