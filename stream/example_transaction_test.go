package stream_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/stream"
)

// What is made of a record, and that it was made, are stored together or not
// at all.
func ExampleDB_Begin() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	orders, err := db.Ensure(ctx, "orders", stream.Config{})
	check(err)
	bills, err := db.Ensure(ctx, "bills", stream.Config{})
	check(err)
	put, err := orders.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("2 apples")})
	check(err)
	row, err := db.Checkpoints().Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "billing", Stream: "orders", Shard: put.ShardID}})
	check(err)

	row.Checkpoint = shardlog.After(put.Sequence)
	for range 2 {
		tx := db.Begin()
		tx.Put(bills, shardlog.Record{PartitionKey: "alice", Data: []byte("2 apples: 1.20")})
		tx.Checkpoint(row) // on the condition that nobody else has moved it
		_, err = tx.Commit(ctx)
		fmt.Println(err == nil, errors.Is(err, shardlog.ErrConflict))
	}
	// Output:
	// true false
	// false true
}
