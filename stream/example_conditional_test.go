package stream_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// PutIf stores records only if nobody else has written to the shard meanwhile.
func ExampleStream_PutIf() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "orders", stream.Config{})
	check(err)
	const shard = "shardId-000000000000"
	event := func(s string) []shardlog.Record { return []shardlog.Record{{PartitionKey: "order-1", Data: []byte(s)}} }

	first, err := st.PutIf(ctx, shard, shardlog.SequenceNumber{}, event("created"))
	check(err)
	_, err = st.PutIf(ctx, shard, first[0].Sequence, event("paid"))
	check(err)
	_, err = st.PutIf(ctx, shard, first[0].Sequence, event("cancelled"))
	var conflict *shardlog.ConflictError
	fmt.Println(errors.As(err, &conflict), errors.Is(err, shardlog.ErrConflict))
	// Output: true true
}
