package stream_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A request whose answer was lost is sent again with the same numbers, and
// stored once. Opening the identity again fences its former owner.
func ExampleStream_PutRequest() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "orders", stream.Config{Shards: 4})
	check(err)
	epoch, err := st.OpenProducer(ctx, "till-7")
	check(err)
	req := &shardlog.PutRequest{
		Records:  []shardlog.Record{{PartitionKey: "alice", Data: []byte("2 apples")}, {PartitionKey: "bob", Data: []byte("1 pear")}},
		Producer: "till-7", Epoch: epoch, Numbers: []uint64{1, 2},
	}
	for range 2 {
		res, err := st.PutRequest(ctx, req)
		check(err)
		fmt.Println(res[0].Duplicate, res[1].Duplicate)
	}
	_, err = st.OpenProducer(ctx, "till-7")
	check(err)
	_, err = st.PutRequest(ctx, req)
	fmt.Println(errors.Is(err, shardlog.ErrFenced))
	// Output:
	// false false
	// true true
	// true
}
