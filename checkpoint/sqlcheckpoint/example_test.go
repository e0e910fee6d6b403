package sqlcheckpoint_test

import (
	"context"
	"database/sql"
	"fmt"

	_ "modernc.org/sqlite" // or another driver for SQLite or PostgreSQL

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/sqlcheckpoint"
)

// Checkpoints in the program's own SQL database. Pass the store to a consumer
// as Options.Store; a handler can put its own writes and the checkpoint into one
// transaction with consumer.CheckpointIn.
func ExampleOpen() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // in memory, each connection would be a database of its own
	store, err := sqlcheckpoint.Open(ctx, db, sqlcheckpoint.SQLite, nil)
	if err != nil {
		panic(err)
	}
	key := checkpoint.Key{Group: "billing", Stream: "orders", Shard: "shardId-000000000000"}
	if _, err := store.Create(ctx, checkpoint.Lease{Key: key, Owner: "worker-1", Epoch: 1}); err != nil {
		panic(err)
	}
	row, err := store.Get(ctx, key)
	fmt.Println(row.Owner, err)
	// Output: worker-1 <nil>
}
