package stream_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog/stream"
)

// Ensure creates a stream or returns the one that is there, unless that has
// another configuration.
func ExampleDB_Ensure() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	for range 2 { // the second time as by a program that is run again
		_, err = db.Ensure(ctx, "clicks", stream.Config{Shards: 2, Retention: time.Hour})
		check(err)
	}
	_, err = db.Ensure(ctx, "clicks", stream.Config{Shards: 3, Retention: time.Hour})
	var mismatch *stream.ConfigMismatchError
	if errors.As(err, &mismatch) {
		for _, f := range mismatch.Fields {
			fmt.Printf("%s is %v, not %v\n", f.Field, f.Have, f.Want)
		}
	}
	// Output: Shards is 2, not 3
}
