package stream_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Reading begins at the oldest record, at a time, at or after a record, or with
// what comes next.
func ExampleStream_Records_positions() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	var puts []shardlog.PutResult
	for _, s := range []string{"a", "b", "c"} {
		put, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte(s)})
		check(err)
		puts = append(puts, put)
	}
	read := func(from shardlog.Position) (data []string) {
		for r, err := range st.Records(ctx, puts[0].ShardID, from) {
			check(err)
			data = append(data, string(r.Data))
		}
		return data
	}
	fmt.Println("oldest:", read(shardlog.TrimHorizon()))
	fmt.Println("since a time:", read(shardlog.AtTime(time.Now().Add(-time.Hour))))
	fmt.Println("at the second:", read(shardlog.At(puts[1].Sequence)))
	fmt.Println("after the second:", read(shardlog.After(puts[1].Sequence)))
	fmt.Println("what comes next:", read(shardlog.Latest()))
	// Output:
	// oldest: [a b c]
	// since a time: [a b c]
	// at the second: [b c]
	// after the second: [c]
	// what comes next: []
}
