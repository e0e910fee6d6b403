package consumer_test

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/internal/kpl"
	"github.com/shardlog/shardlog/stream"
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
				b.ReportAllocs()
				require.NoError(b, c.Run(context.Background(), drain(c, b.N)))
			})
		}
	}
}

// drain counts batches until it has seen a number of records, and then ends the
// consumer.
func drain(c *consumer.Consumer, want int) consumer.Handler {
	var n atomic.Int64
	return consumer.HandlerFunc(func(ctx context.Context, batch *consumer.Batch) error {
		if n.Add(int64(len(batch.Records))) >= int64(want) {
			_ = c.Shutdown(ctx)
		}
		return nil
	})
}

// BenchmarkUnpack measures the way of a user record of an aggregated one, of 50,
// to a handler that does nothing.
func BenchmarkUnpack(b *testing.B) {
	src := newEndless(20)
	for i := range src.page {
		var all kpl.Builder
		for j := range 50 {
			all.Add(kpl.UserRecord{PartitionKey: fmt.Sprint("key-", j%20), Data: make([]byte, 100)}, math.MaxInt)
		}
		src.page[i].Data = all.Append(nil)
	}
	c, err := consumer.New(src, &consumer.Options{Store: checkpoint.NewMemory()})
	require.NoError(b, err)
	b.ReportAllocs()
	require.NoError(b, c.Run(context.Background(), drain(c, b.N)))
}

// BenchmarkConsume measures the way of a record from the store of a log to a
// handler that does nothing: batches of a stream that was written in batches. An
// iteration is all of the stream.
func BenchmarkConsume(b *testing.B) {
	const total = 200_000
	ctx := context.Background()
	db, err := stream.Open(b.TempDir(), &stream.Options{Durability: stream.SyncNever})
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()
	st, err := db.Create(ctx, "bench", stream.Config{Shards: 4})
	require.NoError(b, err)
	batch := make([]shardlog.Record, 500)
	for n := 0; n < total; n += len(batch) {
		for i := range batch {
			batch[i] = shardlog.Record{PartitionKey: fmt.Sprintf("key-%012d", (n+i)%1000), Data: make([]byte, 100)}
		}
		res, err := st.PutRecords(ctx, batch)
		require.NoError(b, err)
		require.NoError(b, res[len(res)-1].Err)
	}
	groups := 0
	for _, with := range []struct {
		name string
		o    consumer.Options
	}{
		{"batches", consumer.Options{}},
		{"checkpoints every second", consumer.Options{CheckpointEvery: time.Second}},
		{"4 keys at the same time", consumer.Options{PerKey: 4}},
		{"4 lanes", consumer.Options{Lanes: 4}},
	} {
		b.Run(with.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				groups++
				o := with.o
				o.Group = fmt.Sprint("group ", groups)
				c, err := consumer.New(st, &o)
				require.NoError(b, err)
				require.NoError(b, c.Run(ctx, drain(c, total)))
			}
		})
	}
}
