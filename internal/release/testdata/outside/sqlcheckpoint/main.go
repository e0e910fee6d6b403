// Command sqlcheckpoint is a program outside the tree: it keeps a checkpoint in
// a SQLite database.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	_ "modernc.org/sqlite"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/sqlcheckpoint"
)

func main() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // each connection would be a database of its own
	store, err := sqlcheckpoint.Open(ctx, db, sqlcheckpoint.SQLite, nil)
	if err != nil {
		log.Fatal(err)
	}
	key := checkpoint.Key{Group: "billing", Stream: "orders", Shard: "shardId-000000000000"}
	if _, err := store.Create(ctx, checkpoint.Lease{Key: key, Owner: "worker-1", Epoch: 1}); err != nil {
		log.Fatal(err)
	}
	row, err := store.Get(ctx, key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sqlcheckpoint: owner", row.Owner)
}
