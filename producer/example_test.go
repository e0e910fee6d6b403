package producer_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// memorySink is a Sink of one shard in memory; a stream.Stream is a real one.
type memorySink struct {
	mu   sync.Mutex
	data []string
}

// Capabilities say that the records of a key may be in one request.
func (s *memorySink) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{OrderedRequest: true}
}

func (s *memorySink) Shards(context.Context) ([]shardlog.ShardInfo, error) { return nil, nil }

func (s *memorySink) PutRecords(_ context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := make([]shardlog.PutResult, len(records))
	for i := range records {
		s.data = append(s.data, string(records[i].Data))
		res[i] = shardlog.PutResult{ShardID: "shardId-000000000000", Sequence: shardlog.NewSequenceNumber(1, 0, uint64(len(s.data)), 1)}
	}
	return res, nil
}

func ExampleProducer_Put() {
	p, err := producer.New(&memorySink{}, nil)
	if err != nil {
		panic(err)
	}
	defer p.Close()

	res, err := p.Put(context.Background(), shardlog.Record{PartitionKey: "alice", Data: []byte("signed in")})
	counter, _ := res.Sequence.Counter()
	fmt.Println(res.ShardID, counter, err)
	// Output: shardId-000000000000 1 <nil>
}

// exampleStream makes a stream in memory.
func exampleStream(cfg stream.Config) *stream.Stream {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		panic(err)
	}
	st, err := db.Ensure(context.Background(), "events", cfg)
	if err != nil {
		panic(err)
	}
	return st
}
