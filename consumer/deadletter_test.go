package consumer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

// Records that were legal in their stream have no room for the headers that
// dead letters add; the sink refused them for ever, and the shard stood.
func TestDeadLettersAtTheLimits(t *testing.T) {
	ctx := t.Context()
	full := shardlog.Record{PartitionKey: "k", Data: bytes.Repeat([]byte("x"), shardlog.DefaultRecordSize-1)}
	for range 256 {
		full.Headers = append(full.Headers, shardlog.Header{Key: "h"})
	}
	manyHeaders := shardlog.Record{PartitionKey: "k", Data: []byte("d"), Headers: full.Headers}
	largest := shardlog.Record{PartitionKey: "k", Data: full.Data}
	for what, c := range map[string]struct {
		rec      shardlog.Record
		most     int // record size of the dead letters' stream; 0 is the default
		complete bool
		headers  int
	}{
		"the largest data":              {largest, 0, true, 0},
		"the most headers":              {manyHeaders, 0, true, 256},
		"a stream of smaller records":   {largest, 64 << 10, false, 4},
		"smaller, and many own headers": {manyHeaders, 0, true, 256},
	} {
		t.Run(what, func(t *testing.T) {
			db, err := stream.Open("", &stream.Options{InMemory: true})
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			st, err := db.Create(ctx, "s", stream.Config{})
			require.NoError(t, err)
			dead, err := db.Create(ctx, "dead", stream.Config{})
			require.NoError(t, err)
			_, err = st.Put(ctx, c.rec)
			require.NoError(t, err)
			_, err = st.Put(ctx, shardlog.Record{PartitionKey: "k", Data: []byte("good")})
			require.NoError(t, err)
			sink := shardlog.Sink(dead)
			if c.most > 0 {
				sink = limited{dead, c.most}
			}
			con, err := consumer.New(st, &consumer.Options{MaxAttempts: 1, DeadLetter: consumer.DeadLettersTo(sink)})
			require.NoError(t, err)
			require.NoError(t, con.Run(ctx, consumer.Each(func(ctx context.Context, r shardlog.Record) error {
				if string(r.Data) != "good" {
					return errors.New("cannot be decoded")
				}
				return con.Shutdown(ctx)
			})))
			page, err := dead.Read(ctx, shardlog.ReadRequest{ShardID: "shardId-000000000000", MaxRecords: 10})
			require.NoError(t, err)
			require.Len(t, page.Records, 1)
			got := page.Records[0]
			assert.Equal(t, c.complete, bytes.Equal(c.rec.Data, got.Data))
			assert.True(t, bytes.HasPrefix(c.rec.Data, got.Data))
			require.Len(t, got.Headers, c.headers)
			if !c.complete {
				assert.Greater(t, len(got.Data), c.most/4)
				assert.Equal(t, shardlog.Header{Key: consumer.HeaderTruncated, Value: fmt.Sprint(len(c.rec.Data))}, got.Headers[3])
			}
		})
	}
}

// limited is a sink with a smaller limit for records.
type limited struct {
	*stream.Stream
	most int
}

func (l limited) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if records[0].Size() > l.most {
		return nil, &shardlog.InvalidError{Field: "Data", Value: records[0].Size(), Limit: fmt.Sprint(l.most)}
	}
	return l.Stream.PutRecords(ctx, records)
}

// What is refused in every form ends with the error about the record as it was.
func TestDeadLettersToEndsWhereEverythingIsRefused(t *testing.T) {
	first := &shardlog.InvalidError{Field: "first"}
	p := &putter{err: first}
	err := consumer.DeadLettersTo(p)(context.Background(), consumer.DeadLetter{
		Record: shardlog.Record{PartitionKey: "k", Data: []byte(strings.Repeat("d", 1000)), Headers: []shardlog.Header{{Key: "a"}}}, Err: errBroken,
	})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	assert.Less(t, len(p.records), 20)
	assert.Empty(t, p.records[len(p.records)-1].Data)
}

// A dead letter that is refused permanently was tried for ever. Now the shard
// stops, with nothing lost, unless OnRefused says otherwise.
func TestDeadLetterThatIsRefusedForGood(t *testing.T) {
	refusals := map[string]error{
		"the sink's limits":   &shardlog.InvalidError{Field: "Data"},
		"the user's function": consumer.Permanent(errBroken),
		"a sink that cannot":  shardlog.ErrUnsupported,
		"a closed sink":       shardlog.ErrClosed,
	}
	for what, refusal := range refusals {
		for _, perKey := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s, %d", what, perKey), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					src, st, k, rec := newSource(1), newStore(), &sink{}, &recorder{}
					src.put(0, 5)
					puts := 0
					o := consumer.Options{
						Store: st, MaxBatchRecords: 1, MaxAttempts: 2, PerKey: perKey, OnEvent: rec.note,
						DeadLetter: func(context.Context, consumer.DeadLetter) error { puts++; return refusal },
					}
					r := start(t, src, refusing(k, name(0, 2)), o)
					err := r.result()
					require.ErrorIs(t, err, refusal)
					require.ErrorContains(t, err, "dead letter refused")
					assert.Equal(t, 1, puts)
					assert.Equal(t, names(0, 0, 2), k.got())
					assert.Equal(t, shardlog.After(seq(0, 1)), st.row(t, 0).Checkpoint, "nothing is lost")
					require.Len(t, rec.of(consumer.EventDeadLetterRefused), 1)

					o.ParkFailed = true
					r = start(t, src, refusing(k, name(0, 2)), o)
					time.Sleep(time.Minute)
					settle()
					assert.Contains(t, r.stats(0).Blocked, "dead letter refused")
					r.stop()

					o.OnRefused = func(d consumer.DeadLetter, err error) error {
						assert.Equal(t, name(0, 2), string(d.Record.Data))
						assert.ErrorIs(t, err, refusal)
						return nil
					}
					r = start(t, src, refusing(k, name(0, 2)), o)
					time.Sleep(time.Minute)
					settle()
					assert.Equal(t, append(names(0, 0, 2), names(0, 3, 5)...), k.got())
					assert.Equal(t, uint64(1), r.stats(0).Dropped)
					assert.Zero(t, r.stats(0).DeadLetters)
					r.stop()
					assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
				})
			})
		}
	}
}

// bareSink is a stream that does not store headers, as those of Kinesis do not.
type bareSink struct{ *stream.Stream }

func (s bareSink) Capabilities() shardlog.Capabilities {
	c := s.Stream.Capabilities()
	c.Headers = false
	return c
}

func (s bareSink) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if len(records[0].Headers) > 0 {
		panic("headers that would be lost")
	}
	return s.Stream.PutRecords(ctx, records)
}

// Where the sink does not store headers, the error's text was lost with them.
func TestDeadLettersToASinkWithoutHeaders(t *testing.T) {
	ctx := t.Context()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	dead, err := db.Create(ctx, "dead", stream.Config{Shards: 4})
	require.NoError(t, err)
	put := consumer.DeadLettersTo(bareSink{dead})
	d := consumer.DeadLetter{
		Record: shardlog.Record{PartitionKey: "k", ExplicitHashKey: shardlog.MaxHashKey, Data: []byte("d"), Headers: []shardlog.Header{{Key: "a", Value: "b"}}, ShardID: "s", Sequence: seq(0, 1)},
		Err:    errBroken, Attempts: 4, Stream: "orders",
	}
	require.NoError(t, put(ctx, d))
	d.Record.Data = bytes.Repeat([]byte("x"), shardlog.DefaultRecordSize-1) // as large as the stream takes
	d.Record.Headers, d.Record.Sequence = nil, seq(0, 2)
	require.NoError(t, put(ctx, d))
	con, err := consumer.New(dead, nil)
	require.NoError(t, err)
	var got []shardlog.Record
	for b, err := range con.Batches(ctx) {
		require.NoError(t, err)
		if got = append(got, b.Records...); len(got) == 2 {
			break
		}
	}
	require.Len(t, got, 2)
	assert.Equal(t, "k", got[0].PartitionKey)
	assert.Equal(t, shardlog.MaxHashKey, got[0].ExplicitHashKey)
	assert.Equal(t, []byte("d"), got[0].Data)
	assert.Equal(t, []shardlog.Header{
		{Key: "a", Value: "b"}, {Key: consumer.HeaderError, Value: errBroken.Error()},
		{Key: consumer.HeaderOrigin, Value: fmt.Sprintf("orders/s/%s/0", seq(0, 1))}, {Key: consumer.HeaderAttempts, Value: "4"},
	}, got[0].Headers)
	assert.Equal(t, d.Record.Data, got[1].Data)

	p := &putter{bare: true}
	require.ErrorIs(t, consumer.DeadLettersTo(p)(ctx, d), shardlog.ErrUnsupported)
	assert.Empty(t, p.records)
}
