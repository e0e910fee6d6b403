package stream_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Rate limits of each shard. A record over the limit is refused with an error
// that says when to try again; a producer.Producer does that by itself.
func ExampleStream_SetLimits() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	check(st.SetLimits(ctx, stream.Limits{WriteRecords: 2})) // or KinesisLimits()

	refused := 0
	for range 10 {
		_, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice"})
		if errors.Is(err, shardlog.ErrThroughputExceeded) {
			refused++
		}
	}
	fmt.Println("some were refused:", refused > 0)
	// Output: some were refused: true
}
