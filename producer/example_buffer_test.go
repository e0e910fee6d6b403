package producer_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

func ExampleProducer_TryPut() {
	p, err := producer.New(&memorySink{}, &producer.Options{BufferRecords: 1, Linger: time.Hour})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	fmt.Println(p.TryPut(shardlog.Record{PartitionKey: "alice"}, nil))
	err = p.TryPut(shardlog.Record{PartitionKey: "bob"}, nil)
	fmt.Println(err, errors.Is(err, producer.ErrBufferFull))
	// Output:
	// <nil>
	// shardlog: put: buffer full true
}
