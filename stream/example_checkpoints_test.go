package stream_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/stream"
)

// The database also keeps the progress of consumers, by compare-and-set.
func ExampleDB_Checkpoints() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	rows := db.Checkpoints()
	key := checkpoint.Key{Group: "billing", Stream: "clicks", Shard: "shardId-000000000000"}
	old, err := rows.Create(ctx, checkpoint.Lease{Key: key, Owner: "worker-1"})
	check(err)
	row := old
	row.Owner = "worker-2"
	_, err = rows.Update(ctx, row)
	check(err)
	_, err = rows.Update(ctx, old)
	fmt.Println(errors.Is(err, shardlog.ErrConflict))
	row, err = rows.Get(ctx, key)
	check(err)
	fmt.Println(row.Owner)
	// Output:
	// true
	// worker-2
}
