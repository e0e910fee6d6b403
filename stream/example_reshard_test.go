package stream_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog/stream"
)

// The number of shards is changed while the stream is in use. The closed
// shards are listed until their records have expired.
func ExampleStream_Reshard() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 2})
	check(err)
	check(st.Reshard(ctx, 4))
	infos, err := st.Shards(ctx)
	check(err)
	for _, s := range infos {
		fmt.Println(s.ID, s.Parents, "closed:", s.Closed)
	}
	// Output:
	// shardId-000000000000 [] closed: true
	// shardId-000000000001 [] closed: true
	// shardId-000000000002 [shardId-000000000000] closed: false
	// shardId-000000000003 [shardId-000000000000] closed: false
	// shardId-000000000004 [shardId-000000000001] closed: false
	// shardId-000000000005 [shardId-000000000001] closed: false
}
