package producer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
	"github.com/shardlog/shardlog/producer"
)

// limitedSink is a sink with other capabilities.
type limitedSink struct {
	*fakeSink
	caps shardlog.Capabilities
}

func (s limitedSink) Capabilities() shardlog.Capabilities { return s.caps }

// What options ask for and the sink has not is an error of New.
func TestWhatTheSinkCannotDo(t *testing.T) {
	for name, c := range map[string]struct {
		opts  producer.Options
		caps  shardlog.Capabilities
		needs string
	}{
		"identity":      {producer.Options{ID: "p"}, shardlog.Capabilities{KeyRanges: true}, "ID"},
		"aggregation":   {producer.Options{Aggregation: producer.Aggregation{Enabled: true}}, shardlog.Capabilities{}, "Aggregation"},
		"keyless":       {producer.Options{Keyless: true}, shardlog.Capabilities{}, "Keyless"},
		"limits":        {producer.Options{ShardRate: producer.ShardRate{Bytes: 1000}}, shardlog.Capabilities{}, "ShardRate"},
		"many records":  {producer.Options{MaxBatchRecords: 501}, shardlog.Capabilities{MaxRequestRecords: 500}, "MaxBatchRecords"},
		"large request": {producer.Options{MaxBatchBytes: 1001}, shardlog.Capabilities{MaxRequestBytes: 1000}, "MaxBatchBytes"},
		"large record":  {producer.Options{MaxRecordSize: 1001}, shardlog.Capabilities{MaxRecord: 1000}, "MaxRecordSize"},
		"aggregate":     {producer.Options{Aggregation: producer.Aggregation{MaxSize: 1001}}, shardlog.Capabilities{MaxRecord: 1000}, "Aggregation.MaxSize"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := producer.New(limitedSink{&fakeSink{}, c.caps}, &c.opts)
			require.ErrorIs(t, err, shardlog.ErrUnsupported)
			assert.ErrorContains(t, err, "Options."+c.needs+" needs ")
		})
	}
	_, err := producer.New(limitedSink{&fakeSink{}, shardlog.Capabilities{}}, nil)
	require.NoError(t, err, "the defaults ask for nothing")
}

func TestDefaultsFitTheSink(t *testing.T) {
	o := newProducer(t, limitedSink{&fakeSink{}, shardlog.Capabilities{MaxRecord: 2000, MaxRequestBytes: 10_000, MaxRequestRecords: 20}}, nil).Resolved()
	assert.Equal(t, [4]int{20, 10_000, 2000, 2000}, [4]int{o.MaxBatchRecords, o.MaxBatchBytes, o.MaxRecordSize, o.Aggregation.MaxSize})
	// A larger limit changes nothing, except that the user may go up to it.
	o = newProducer(t, limitedSink{&fakeSink{}, shardlog.Capabilities{MaxRequestRecords: 1000}}, nil).Resolved()
	assert.Equal(t, shardlog.MaxRequestRecords, o.MaxBatchRecords)
}

// The partition key counts for the sink's limit, so an aggregate leaves room
// for it; one that is too large would be refused and sent again in pieces.
func TestAggregatesFitTheSinkWithTheirKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caps := allCaps
		caps.MaxRecord = 1000
		c := newCluster(1, caps)
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
		key := strings.Repeat("k", 200)
		names := numbered("", 200)
		putAll(t, p, []string{key}, names)
		for _, r := range c.records() {
			assert.Greater(t, len(r.users), 1)
			assert.LessOrEqual(t, r.rec.Size(), caps.MaxRecord)
		}
		assert.Equal(t, names, c.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// A sink that may store the second record of a key although it refused the first
// never gets two of a key in one request, from the first request on.
func TestOrderOverASinkThatDoesNotPromiseIt(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			sink := &fakeSink{}
			refused := false
			sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
				if !refused && !ordered { // the first record alone, as Kinesis does
					refused = true
					res := sink.store(records, 0)
					res[0].Err = shardlog.ErrThroughputExceeded
					return res, nil
				}
				return sink.store(records), nil
			}
			p := newProducer(t, limitedSink{sink, shardlog.Capabilities{OrderedRequest: ordered}}, &producer.Options{Linger: time.Second})
			for i := range 5 {
				require.NoError(t, p.PutAsync(t.Context(), rec("key", fmt.Sprint(i)), nil))
			}
			require.NoError(t, p.Shutdown(t.Context()))
			var stored []string
			for _, r := range sink.stored {
				stored = append(stored, string(r.Data))
			}
			assert.Equal(t, []string{"0", "1", "2", "3", "4"}, stored)
			if ordered {
				assert.Len(t, sink.calls, 1)
			} else {
				assert.Len(t, sink.calls, 6, "one for each record, and the refused one again")
			}
			assert.Zero(t, p.Stats().Reordered)
		})
	}
}

// Headers go inside an aggregate where the sink does not store them, and are
// refused without aggregation.
func TestHeadersOverASinkWithoutThem(t *testing.T) {
	r := rec("key", "data")
	r.Headers = []shardlog.Header{{Key: "h", Value: "v"}}
	t.Run("refused", func(t *testing.T) {
		p := newProducer(t, limitedSink{&fakeSink{}, shardlog.Capabilities{}}, nil)
		_, err := p.Put(t.Context(), r)
		require.ErrorIs(t, err, shardlog.ErrUnsupported)
		_, err = p.Put(t.Context(), rec("key", "data"))
		require.NoError(t, err)
		require.NoError(t, p.Shutdown(t.Context()))
	})
	t.Run("inside", func(t *testing.T) {
		c := newCluster(1, shardlog.Capabilities{})
		p := newProducer(t, withoutHeaders{c}, &producer.Options{Aggregation: producer.Aggregation{Enabled: true}})
		for _, put := range []shardlog.Record{r, rec("key", "plain")} { // alone in their requests
			_, err := p.Put(t.Context(), put)
			require.NoError(t, err)
		}
		require.NoError(t, p.Shutdown(t.Context()))
		require.Len(t, c.log, 2)
		require.Empty(t, c.log[0].rec.Headers)
		users, err := kpl.Decode(c.log[0].rec.Data, nil)
		require.NoError(t, err)
		require.Len(t, users, 1)
		assert.Equal(t, r.Headers, users[0].Headers)
		assert.Equal(t, "plain", string(c.log[1].rec.Data), "without headers there is no need")
	})
}

type withoutHeaders struct{ *cluster }

func (s withoutHeaders) Capabilities() shardlog.Capabilities {
	caps := s.cluster.Capabilities()
	caps.Headers = false
	return caps
}
