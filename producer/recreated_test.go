package producer_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

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

// byName is a sink that finds its stream by name at each call, as clients of
// another system do.
type byName struct {
	db   *stream.DB
	name string
}

func (s byName) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{KeyRanges: true, Lineage: true, OrderedRequest: true}
}

func (s byName) Shards(ctx context.Context) ([]shardlog.ShardInfo, error) {
	st, err := s.db.Stream(ctx, s.name)
	if err != nil {
		return nil, err
	}
	return st.Shards(ctx)
}

func (s byName) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	st, err := s.db.Stream(ctx, s.name)
	if err != nil {
		return nil, err
	}
	return st.PutRecords(ctx, records)
}

// A stream of the same name has shards of the same IDs with other hash keys: an
// aggregate that was built by the shards of the first one is not where all of it
// belongs in the second.
func TestAggregatesForAStreamThatIsRecreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		_, err = db.Create(ctx, "test", stream.Config{})
		require.NoError(t, err)
		p, err := producer.New(byName{db, "test"}, &producer.Options{Linger: time.Second, Aggregation: producer.Aggregation{Enabled: true}})
		require.NoError(t, err)
		put := func(name string) {
			for i := range 50 {
				require.NoError(t, p.PutAsync(ctx, shardlog.Record{PartitionKey: fmt.Sprint("key", i), Data: fmt.Append(nil, name, i)}, nil))
			}
			require.NoError(t, p.Flush(ctx))
		}
		put("first")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NoError(t, db.Delete(ctx, "test"))
		st, err := db.Create(ctx, "test", stream.Config{Shards: 3})
		require.NoError(t, err)
		put("second")
		require.NoError(t, p.Shutdown(ctx))
		found := map[string]bool{}
		for _, info := range shardsOf(t, st) {
			page, err := st.Read(ctx, shardlog.ReadRequest{ShardID: info.ID})
			require.NoError(t, err)
			for i := range page.Records {
				for _, u := range users(&page.Records[i]) {
					if h := u.Hash(); h.Compare(info.HashStart) >= 0 && h.Compare(info.HashEnd) <= 0 {
						found[string(u.Data)] = true // a consumer delivers no other
					}
				}
			}
		}
		assert.Len(t, found, 50)
	})
}

func shardsOf(t *testing.T, st *stream.Stream) []shardlog.ShardInfo {
	t.Helper()
	infos, err := st.Shards(context.Background())
	require.NoError(t, err)
	return infos
}
