// Command log is a program outside the tree: it writes to a log through a
// producer and reads the record back.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

func main() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	orders, err := db.Create(ctx, "orders", stream.Config{Shards: 2})
	if err != nil {
		log.Fatal(err)
	}
	p, err := producer.New(orders, nil)
	if err != nil {
		log.Fatal(err)
	}
	put, err := p.Put(ctx, shardlog.Record{PartitionKey: "customer-17", Data: []byte("2 apples")})
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Close(); err != nil {
		log.Fatal(err)
	}
	for r, err := range orders.Records(ctx, put.ShardID, shardlog.TrimHorizon()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("log: %s\n", r.Data)
	}
}
