package producer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// With an identity, a record whose answer was lost is sent again and stored
// once; a second producer with the identity takes over.
func ExampleOptions_identity() {
	st := exampleStream(stream.Config{})
	ctx := context.Background()
	first, err := producer.New(st, &producer.Options{ID: "orders-1"})
	if err != nil {
		panic(err)
	}
	defer first.Close()
	_, err = first.Put(ctx, shardlog.Record{PartitionKey: "order-7", Data: []byte("paid")})
	fmt.Println("first:", err)

	second, err := producer.New(st, &producer.Options{ID: "orders-1"}) // as after a restart
	if err != nil {
		panic(err)
	}
	defer second.Close()
	_, err = second.Put(ctx, shardlog.Record{PartitionKey: "order-7", Data: []byte("sent")})
	fmt.Println("second:", err)
	_, err = first.Put(ctx, shardlog.Record{PartitionKey: "order-7", Data: []byte("late")})
	fmt.Println("first is fenced:", errors.Is(err, shardlog.ErrFenced))
	// Output:
	// first: <nil>
	// second: <nil>
	// first is fenced: true
}
