package stream_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A page of a reader that has everything waits for the next record, for as long
// as the request says.
func ExampleStream_Read_longPoll() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	go func() {
		_, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("/index.html")})
		check(err)
	}()
	page, err := st.Read(ctx, shardlog.ReadRequest{ShardID: shardlog.ShardID(0), Wait: time.Minute})
	check(err)
	fmt.Printf("%s\n", page.Records[0].Data)
	// Output: /index.html
}
