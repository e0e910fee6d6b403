package producer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

func ExampleProducer_PutBatch() {
	p, err := producer.New(&memorySink{}, &producer.Options{MaxRecordSize: 20})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	res, err := p.PutBatch(context.Background(), []shardlog.Record{
		{PartitionKey: "alice", Data: []byte("in")},
		{PartitionKey: "bob", Data: []byte("in")},
	})
	fmt.Println(len(res), err)
	_, err = p.PutBatch(context.Background(), []shardlog.Record{
		{PartitionKey: "alice", Data: []byte("out")},
		{PartitionKey: "", Data: []byte("out")},
	})
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// shardlog: put: invalid records[1].PartitionKey "": must be at least 1 character
}
