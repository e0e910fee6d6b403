package checkpoint_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// A store in memory is for tests, and for consumers that read everything again
// whenever the program starts. An update that was not made from the latest
// version of a row is refused: this is how a worker learns that it has lost a
// shard.
func ExampleNewMemory() {
	ctx := context.Background()
	store := checkpoint.NewMemory()
	key := checkpoint.Key{Group: "billing", Stream: "orders", Shard: "shardId-000000000000"}
	row, err := store.Create(ctx, checkpoint.Lease{Key: key, Owner: "worker-1", Epoch: 1, Checkpoint: shardlog.TrimHorizon()})
	if err != nil {
		panic(err)
	}
	stale := row
	row.Owner, row.Epoch = "worker-2", 2
	if _, err := store.Update(ctx, row); err != nil {
		panic(err)
	}
	_, err = store.Update(ctx, stale)
	fmt.Println(errors.Is(err, shardlog.ErrConflict))
	// Output: true
}
