package redischeckpoint_test

import (
	"context"
	"log"

	"github.com/redis/go-redis/v9"

	"github.com/shardlog/shardlog/checkpoint/redischeckpoint"
)

// Checkpoints in Redis. Pass the store to a consumer as Options.Store. The
// example needs a server and is only compiled.
func ExampleOpen() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer client.Close()
	store, err := redischeckpoint.Open(context.Background(), client, nil)
	if err != nil {
		log.Fatal(err)
	}
	_ = store
}
