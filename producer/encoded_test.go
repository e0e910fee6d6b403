package producer_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// A caller may use a record's memory again when its call has returned, whatever
// the size, whether or not the record has to wait for room, and whether or not it
// can go in an array with others.
func TestDataOfAllSizesIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, open := blocked(false)
		p := newProducer(t, sink, &producer.Options{BufferRecords: 4, MaxInFlight: 1})
		var want []string
		put := func(n int, headers []shardlog.Header) {
			data := bytes.Repeat([]byte{byte('a' + len(want))}, n)
			want = append(want, string(data))
			require.NoError(t, p.PutAsync(t.Context(), shardlog.Record{PartitionKey: "k", Data: data, Headers: headers}, nil))
			clear(data)
		}
		header := []shardlog.Header{{Key: "h"}}
		for _, h := range [][]shardlog.Header{nil, header, header, nil} { // fills the buffer
			put(1000, h)
		}
		time.AfterFunc(time.Second, open)
		for _, n := range []int{1, 256, 257, 4096, 4097, 100_000} {
			put(n, nil)
			put(n, header)
		}
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Equal(t, want, sink.names())
	})
}

// A producer gives a stream in its process records that are encoded; where the
// stream cannot take them so, the results are the same.
func TestEncodedRecordsOverAStream(t *testing.T) {
	limits := stream.Limits{WriteRecords: 50_000} // never reached
	for name, cfg := range map[string]stream.Config{
		"usual": {Shards: 4}, "another hash": {Shards: 4, Hash: stream.XXHash}, "write limits": {Shards: 4, Limits: limits},
	} {
		t.Run(name, func(t *testing.T) {
			st := openStream(t, cfg)
			p := newProducer(t, st, &producer.Options{MaxBatchRecords: 50})
			infos, err := st.Shards(t.Context())
			require.NoError(t, err)
			want := map[string]string{} // key by data
			results := map[string]producer.Result{}
			for i := range 2000 {
				r := shardlog.Record{PartitionKey: fmt.Sprint("k", i%37), Data: bytes.Repeat(fmt.Append(nil, i, " "), 1+i%50)}
				if i%5 == 0 {
					r.ExplicitHashKey = infos[i%4].HashEnd
				}
				if i == 1000 {
					_, err := st.Split(t.Context(), infos[1].ID, shardlog.HashKey{})
					require.NoError(t, err)
				}
				want[string(r.Data)] = r.PartitionKey
				require.NoError(t, p.PutAsync(t.Context(), r, func(res producer.Result, err error) {
					assert.NoError(t, err)
					results[fmt.Sprint(i)] = res
				}))
			}
			require.NoError(t, p.Shutdown(t.Context()))
			require.Len(t, results, 2000)
			got := readAll(t, st)
			require.Len(t, got, 2000)
			for _, u := range got {
				require.Equal(t, want[u.data], u.key)
				var i int
				_, err := fmt.Sscan(u.data, &i)
				require.NoError(t, err)
				res := results[fmt.Sprint(i)]
				require.Equal(t, u.shard, res.ShardID)
				require.Equal(t, u.seq, res.Sequence)
				require.Equal(t, 1, res.Sends)
			}
		})
	}
}

// The stream refuses what a producer with larger limits accepts, and names it.
func TestEncodedRecordAboveTheLimitOfItsStream(t *testing.T) {
	st := openStream(t, stream.Config{MaxRecordSize: 1000})
	p := newProducer(t, st, nil)
	_, err := p.Put(t.Context(), rec("k", string(make([]byte, 1000))))
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome)
	_, err = p.Put(t.Context(), rec("k", string(make([]byte, 999))))
	require.NoError(t, err)
	require.NoError(t, p.Shutdown(t.Context()))
}

// countingSink is a stream with a PutRecords of its own.
type countingSink struct {
	*stream.Stream
	records atomic.Int64
}

func (s *countingSink) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	s.records.Add(int64(len(records)))
	return s.Stream.PutRecords(ctx, records)
}

func TestSinkThatContainsAStreamIsNotPassedBy(t *testing.T) {
	sink := &countingSink{Stream: openStream(t, stream.Config{})}
	p := newProducer(t, sink, nil)
	for range 10 {
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "a"), nil))
	}
	require.NoError(t, p.Shutdown(t.Context()))
	require.EqualValues(t, 10, sink.records.Load())
}
