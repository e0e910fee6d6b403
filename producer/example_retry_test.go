package producer_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// refusingSink refuses each record twice, as a sink that is over its limit.
type refusingSink struct {
	memorySink
	calls int
}

func (s *refusingSink) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if s.calls++; s.calls <= 2 {
		res := make([]shardlog.PutResult, len(records))
		for i := range res {
			res[i].Err = shardlog.ErrThroughputExceeded
		}
		return res, nil
	}
	return s.memorySink.PutRecords(ctx, records)
}

// Records that are refused for the moment are sent again, after pauses that grow
// at random. A result says what happened.
func ExampleRetry() {
	p, err := producer.New(&refusingSink{}, &producer.Options{
		Retry: producer.Retry{Initial: time.Millisecond, Max: 10 * time.Millisecond},
	})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	res, err := p.Put(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("signed in")})
	fmt.Println(res.Sends, "sends:", err)
	for _, a := range res.Attempts {
		fmt.Println(errors.Is(a.Err, shardlog.ErrThroughputExceeded))
	}
	// Output:
	// 3 sends: <nil>
	// true
	// true
	// false
}
