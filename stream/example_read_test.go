package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A page says where to continue, and at the end of a closed shard which shards
// continue it.
func ExampleStream_Read() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	for i := range 5 {
		_, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: fmt.Append(nil, i)})
		check(err)
	}
	_, err = st.Split(ctx, "shardId-000000000000", shardlog.HashKey{})
	check(err)
	req := shardlog.ReadRequest{ShardID: "shardId-000000000000", MaxRecords: 2}
	for {
		page, err := st.Read(ctx, req)
		check(err)
		fmt.Println(len(page.Records), "records,", page.BehindRecords, "follow")
		if page.End {
			fmt.Println("continues in", page.Children)
			return
		}
		req.From = page.Next
	}
	// Output:
	// 2 records, 3 follow
	// 2 records, 1 follow
	// 1 records, 0 follow
	// continues in [shardId-000000000001 shardId-000000000002]
}
