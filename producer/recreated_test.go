package producer_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// A producer writes to the stream that it was made for. When that is deleted its
// records are refused, for certain and without end, also if another stream has
// the name by then; that one gets nothing.
func TestStreamIsRecreatedUnderAProducer(t *testing.T) {
	for name, o := range map[string]producer.Options{
		"plain":             {},
		"with an identity":  {ID: "p"},
		"aggregating":       {Aggregation: producer.Aggregation{Enabled: true}},
		"aggregating, once": {ID: "p", Aggregation: producer.Aggregation{Enabled: true}},
	} {
		for _, used := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", used before: ", used), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := context.Background()
					db, err := stream.Open("", &stream.Options{InMemory: true})
					require.NoError(t, err)
					defer func() { require.NoError(t, db.Close()) }()
					st, err := db.Create(ctx, "test", stream.Config{Shards: 2})
					require.NoError(t, err)
					p, err := producer.New(st, &o)
					require.NoError(t, err)
					put := func() error {
						_, err := p.Put(ctx, shardlog.Record{PartitionKey: "k", Data: []byte("x")})
						return err
					}
					if used {
						require.NoError(t, put())
					}
					require.NoError(t, db.Delete(ctx, "test"))
					next, err := db.Create(ctx, "test", stream.Config{Shards: 2})
					require.NoError(t, err)
					for range 2 {
						err := put()
						require.ErrorIs(t, err, shardlog.ErrNotFound)
						require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome)
					}
					require.NoError(t, p.Shutdown(ctx))
					assert.Empty(t, readAll(t, next))
				})
			})
		}
	}
}
