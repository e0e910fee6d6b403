package stream_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Check verifies all that a closed database stores. Repair removes what is
// damaged, so that readers no longer meet it.
func ExampleCheck() {
	tmp, err := os.MkdirTemp("", "shardlog-")
	check(err)
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "db")
	ctx := context.Background()
	db, err := stream.Open(dir, nil)
	check(err)
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	_, err = st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("/index.html")})
	check(err)
	check(db.Close())

	report, err := stream.Check(ctx, dir, nil)
	check(err)
	fmt.Println(report.Sound(), len(report.Findings))
	// Output: true 0
}
