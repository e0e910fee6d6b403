package stream_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Records that another system can send again need no sync for each write.
// Sync asks for one where it matters.
func ExampleOptions_durability() {
	tmp, err := os.MkdirTemp("", "shardlog-")
	check(err)
	defer os.RemoveAll(tmp)
	ctx := context.Background()
	db, err := stream.Open(filepath.Join(tmp, "db"), &stream.Options{
		Durability: stream.SyncInterval, SyncInterval: 50 * time.Millisecond,
	})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "readings", stream.Config{})
	check(err)
	_, err = st.Put(ctx, shardlog.Record{PartitionKey: "sensor-4", Data: []byte("21.5")})
	check(err)
	fmt.Println(db.Sync()) // what was acknowledged before is on disk now
	// Output: <nil>
}
