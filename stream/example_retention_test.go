package stream_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog/stream"
)

// Retention is by age, by stored bytes, or by both.
func ExampleStream_SetRetention() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	fmt.Println(st.Info().Retention)
	check(st.SetRetention(ctx, 7*24*time.Hour, 10<<30))
	fmt.Println(st.Info().Retention, st.Info().RetentionBytes)
	check(st.SetRetention(ctx, stream.Forever, 0))
	fmt.Println(st.Info().Retention == stream.Forever)
	// Output:
	// 24h0m0s
	// 168h0m0s 10737418240
	// true
}
