package stream_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A database is a directory with streams in it.
func ExampleOpen() {
	tmp, err := os.MkdirTemp("", "shardlog-")
	check(err)
	defer os.RemoveAll(tmp)
	ctx := context.Background()

	db, err := stream.Open(filepath.Join(tmp, "db"), nil)
	check(err)
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 2})
	check(err)
	res, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("/index.html")})
	check(err)
	check(db.Close())

	db, err = stream.Open(filepath.Join(tmp, "db"), nil)
	check(err)
	defer db.Close()
	st, err = db.Ensure(ctx, "clicks", stream.Config{Shards: 2})
	check(err)
	for r, err := range st.Records(ctx, res.ShardID, shardlog.TrimHorizon()) {
		check(err)
		fmt.Printf("%s %s\n", r.PartitionKey, r.Data)
	}
	// Output: alice /index.html
}
