package stream_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Scan lends one record after another: what is to be kept has to be copied.
func ExampleStream_Scan() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 1})
	check(err)
	for _, name := range []string{"alice", "bob", "alice"} {
		_, err = st.Put(ctx, shardlog.Record{PartitionKey: name, Data: []byte("a click of " + name)})
		check(err)
	}

	bytes, longest := 0, ""
	for r, err := range st.Scan(ctx, shardlog.ShardID(0), shardlog.TrimHorizon()) {
		check(err)
		bytes += len(r.Data)
		if len(r.PartitionKey) > len(longest) {
			longest = strings.Clone(r.PartitionKey) // r is another record after this step
		}
	}
	fmt.Println(bytes, longest)
	// Output: 46 alice
}
