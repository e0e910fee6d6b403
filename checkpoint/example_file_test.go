package checkpoint_test

import (
	"context"
	"fmt"
	"os"

	"github.com/shardlog/shardlog/checkpoint"
)

// A store in files needs no database, survives the process, and serves all
// processes that can lock files of its directory.
func ExampleOpenFile() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "checkpoints")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	store, err := checkpoint.OpenFile(dir, nil)
	if err != nil {
		panic(err)
	}
	key := checkpoint.Key{Group: "billing", Stream: "orders", Shard: "shardId-000000000000"}
	if _, err := store.Create(ctx, checkpoint.Lease{Key: key, Owner: "worker-1", Epoch: 1}); err != nil {
		panic(err)
	}
	again, err := checkpoint.OpenFile(dir, nil) // for example by another process
	if err != nil {
		panic(err)
	}
	row, err := again.Get(ctx, key)
	fmt.Println(row.Owner, err)
	// Output: worker-1 <nil>
}
