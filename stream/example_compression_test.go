package stream_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Blocks of this stream are compressed on disk, which costs time and saves
// space. Readers do not notice.
func ExampleConfig_compression() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Compression: stream.Zstd})
	check(err)
	data := bytes.Repeat([]byte("GET /index.html 200\n"), 5_000)
	put, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: data})
	check(err)
	for r, err := range st.Records(ctx, put.ShardID, shardlog.TrimHorizon()) {
		check(err)
		fmt.Println(len(r.Data), "bytes read")
	}
	fmt.Println("less than a tenth is stored:", st.Stats().Shards[0].Bytes < int64(len(data))/10)
	// Output:
	// 100000 bytes read
	// less than a tenth is stored: true
}
