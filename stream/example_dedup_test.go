package stream_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A record with a DedupID that was stored within the window is not stored
// again; its result is that of the first.
func ExampleStream_SetDedupWindow() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "payments", stream.Config{Shards: 4, DedupWindow: 2 * time.Minute})
	check(err)
	payment := shardlog.Record{PartitionKey: "alice", Data: []byte("12.50"), DedupID: "payment 4711"}
	first, err := st.Put(ctx, payment)
	check(err)
	again, err := st.Put(ctx, payment)
	check(err)
	fmt.Println(again.Duplicate, again.Sequence == first.Sequence)
	check(st.SetDedupWindow(ctx, 5*time.Minute)) // at any time
	// Output: true true
}
