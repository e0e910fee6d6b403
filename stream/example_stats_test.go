package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Figures of a stream, shard by shard, and of the database, for metrics. Reading
// them is cheap.
func ExampleStream_Stats() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 2})
	check(err)
	for range 3 {
		_, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("/index.html")})
		check(err)
	}
	for _, s := range st.Stats().Shards {
		fmt.Println(s.ID, s.RecordsIn, "records,", s.BytesIn, "bytes written")
	}
	all := db.Stats()
	fmt.Println(all.Streams, "stream,", all.Shards, "shards")
	// Output:
	// shardId-000000000000 3 records, 48 bytes written
	// shardId-000000000001 0 records, 0 bytes written
	// 1 stream, 2 shards
}
