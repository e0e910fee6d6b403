package badgercheckpoint_test

import (
	"context"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/badgercheckpoint"
)

// Checkpoints in the program's own Badger database, next to its other keys.
// Pass the store to a consumer as Options.Store.
func ExampleNew() {
	ctx := context.Background()
	db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil))
	if err != nil {
		panic(err)
	}
	defer db.Close()
	store, err := badgercheckpoint.New(db, nil)
	if err != nil {
		panic(err)
	}
	key := checkpoint.Key{Group: "billing", Stream: "orders", Shard: "shardId-000000000000"}
	if _, err := store.Create(ctx, checkpoint.Lease{Key: key, Owner: "worker-1", Epoch: 1}); err != nil {
		panic(err)
	}
	rows, err := store.List(ctx, "billing", "orders")
	fmt.Println(len(rows), rows[0].Owner, err)
	// Output: 1 worker-1 <nil>
}
