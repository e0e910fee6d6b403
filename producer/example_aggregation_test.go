package producer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// Aggregation packs records into stored ones, as the Kinesis Producer Library
// does.
func ExampleAggregation() {
	st := exampleStream(stream.Config{})
	p, err := producer.New(st, &producer.Options{
		Aggregation: producer.Aggregation{Enabled: true, MaxCount: 100},
		Linger:      time.Hour, // so that all is sent by Flush
	})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	for i := range 250 {
		r := shardlog.Record{PartitionKey: fmt.Sprint("user-", i%10), Data: []byte("clicked")}
		if err := p.PutAsync(context.Background(), r, nil); err != nil {
			panic(err)
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		panic(err)
	}
	s := p.Stats()
	fmt.Println(s.Put, "records in", s.Stored, "stored ones, up to", s.RecordsPerStored.Max)
	// Output: 250 records in 3 stored ones, up to 100
}
