package stream_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A backup is taken while the database is in use, and restored into a new
// directory.
func ExampleRestore() {
	tmp, err := os.MkdirTemp("", "shardlog-")
	check(err)
	defer os.RemoveAll(tmp)
	ctx := context.Background()

	db, err := stream.Open(filepath.Join(tmp, "db"), nil)
	check(err)
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	put, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("/index.html")})
	check(err)
	var backup bytes.Buffer // usually a file
	check(db.Backup(ctx, &backup))
	check(db.Close())

	check(stream.Restore(ctx, filepath.Join(tmp, "restored"), &backup, nil))
	db, err = stream.Open(filepath.Join(tmp, "restored"), nil)
	check(err)
	defer db.Close()
	st, err = db.Stream(ctx, "clicks")
	check(err)
	for r, err := range st.Records(ctx, put.ShardID, shardlog.TrimHorizon()) {
		check(err)
		fmt.Printf("%s %s\n", r.PartitionKey, r.Data)
	}
	// Output: alice /index.html
}
