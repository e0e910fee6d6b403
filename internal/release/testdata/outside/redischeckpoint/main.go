// Command redischeckpoint is a program outside the tree: it opens a store in a
// Redis that is not there, and is refused.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/redis/go-redis/v9"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/redischeckpoint"
)

func main() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer client.Close()
	store, err := redischeckpoint.Open(context.Background(), client, nil)
	if err == nil {
		_, err = store.Get(context.Background(), checkpoint.Key{Group: "g", Stream: "s", Shard: "0"})
	}
	if !errors.Is(err, checkpoint.ErrUnavailable) {
		log.Fatalf("got %v, want %v", err, checkpoint.ErrUnavailable)
	}
	fmt.Println("redischeckpoint: unavailable")
}
