package producer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

func ExampleProducer_Stats() {
	p, err := producer.New(&memorySink{}, &producer.Options{Linger: time.Hour})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	for range 5 {
		if err := p.PutAsync(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("hello")}, nil); err != nil {
			panic(err)
		}
	}
	fmt.Println(p.Stats().Pending, p.Stats().PendingBytes)
	if err := p.Flush(context.Background()); err != nil {
		panic(err)
	}
	s := p.Stats()
	fmt.Println(s.Put, "records in", s.Requests, "request;", s.Pending, "pending")
	// Output:
	// 5 50
	// 5 records in 1 request; 0 pending
}
