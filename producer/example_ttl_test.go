package producer_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// silentSink does not answer while ctx lasts, as a sink behind a broken network.
type silentSink struct{ memorySink }

func (s *silentSink) PutRecords(ctx context.Context, _ []shardlog.Record) ([]shardlog.PutResult, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A record that is not stored in time fails. The error says whether it may be
// stored nevertheless; without that, it is not, and will not be.
func ExampleOptions_ttl() {
	p, err := producer.New(&silentSink{}, &producer.Options{TTL: 10 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	_, err = p.Put(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("signed in")})
	fmt.Println("may be stored:", errors.Is(err, shardlog.ErrUnknownOutcome))
	// Output: may be stored: true
}
