package consumer_test

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// totals is a handler that keeps something in memory for each shard.
type totals struct{ end func() }

func (totals) StartShard(_ context.Context, s consumer.Start) error {
	fmt.Println("start", s.ShardID, "from", s.From)
	return nil
}

func (totals) Handle(_ context.Context, b *consumer.Batch) error {
	fmt.Println("handle", len(b.Records), "records")
	return nil
}

func (h totals) EndShard(_ context.Context, e *consumer.End) error {
	fmt.Println("end", e.ShardID, "before", len(e.Children), "children")
	h.end()
	return nil
}

func (totals) StopShard(context.Context, *consumer.Stop) error { return nil } // before it is given back
func (totals) LoseShard(context.Context, consumer.Lost)        {}             // nothing can be stored any more

// A handler may have methods for the beginning and the end of a shard.
func ExampleStartHandler() {
	src := newSource(1)
	src.put(0, 3)
	src.split(0)
	c, err := consumer.New(src, &consumer.Options{Store: checkpoint.NewMemory()})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_ = c.Run(ctx, totals{end: cancel})
	// Output:
	// start shardId-000000000000 from trim horizon
	// handle 3 records
	// end shardId-000000000000 before 2 children
}
