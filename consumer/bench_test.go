package consumer_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// endless is a source of one shard that answers each read immediately, with a
// page of the same size.
type endless struct{ page []shardlog.Record }

func newEndless(records int) *endless {
	e := &endless{}
	for i := range records {
		e.page = append(e.page, shardlog.Record{PartitionKey: fmt.Sprint("key-", i%20), Data: make([]byte, 100), ShardID: shardID(0)})
	}
	return e
}

func (e *endless) Name() string { return "orders" }

func (e *endless) Shards(context.Context) ([]shardlog.ShardInfo, error) {
	return []shardlog.ShardInfo{{ID: shardID(0), HashEnd: shardlog.MaxHashKey}}, nil
}

func (e *endless) Read(_ context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	records := append([]shardlog.Record(nil), e.page...)
	n := 0
	if req.From.Kind() == shardlog.KindAfter {
		n = int(counterOf(req.From.Sequence()))
	}
	for i := range records {
		records[i].Sequence = seq(0, n+i)
	}
	return shardlog.Page{Records: records, Next: shardlog.After(records[len(records)-1].Sequence), BehindRecords: 5}, nil
}

// BenchmarkDeliver measures the way of a record from a source that always has
// more to a handler that does nothing.
func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{10, 1000} {
		for _, with := range []struct {
			name string
			o    consumer.Options
		}{
			{"batches", consumer.Options{}},
			{"checkpoint after each", consumer.Options{CheckpointEvery: time.Nanosecond}},
			{"4 keys at the same time", consumer.Options{PerKey: 4}},
		} {
			b.Run(fmt.Sprintf("%d records/%s", size, with.name), func(b *testing.B) {
				o := with.o
				o.Store = checkpoint.NewMemory()
				c, err := consumer.New(newEndless(size), &o)
				require.NoError(b, err)
				var n atomic.Int64
				b.ReportAllocs()
				require.NoError(b, c.Run(context.Background(), consumer.HandlerFunc(func(ctx context.Context, batch *consumer.Batch) error {
					if n.Add(int64(len(batch.Records))) >= int64(b.N) {
						_ = c.Shutdown(ctx)
					}
					return nil
				})))
			})
		}
	}
}
