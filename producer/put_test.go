package producer_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

func TestPutAloneGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		p := newProducer(t, sink, &producer.Options{Linger: time.Hour})
		start := time.Now()
		res, err := p.Put(t.Context(), rec("k", "a"))
		require.NoError(t, err)
		assert.Equal(t, start, time.Now(), "no linger")
		assert.Equal(t, "shardId-000000000000", res.ShardID)
		assert.EqualValues(t, 1, counterOf(res.Sequence))
		assert.Equal(t, 1, res.Sends)
		assert.Len(t, res.Attempts, 1)
		require.NoError(t, p.Shutdown(t.Context()))
		requireNoGoroutines(t)
	})
}

func TestRequestsFormByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			time.Sleep(time.Millisecond)
			return sink.store(records), nil
		}
		p := newProducer(t, sink, nil)
		var wg sync.WaitGroup
		for _, w := range numbered("w", 256) {
			wg.Go(func() {
				for range 20 {
					_, err := p.Put(context.Background(), rec(w, w))
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, p.Stats().Requests, uint64(42), "what gathers during a request goes together")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			if n == 0 {
				time.Sleep(time.Second)
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, nil)
		var o outcomes
		o.put(t, p, "slow", "a")
		synctest.Wait()
		start := time.Now()
		_, err := p.Put(t.Context(), rec("other", "b"))
		require.NoError(t, err)
		assert.Equal(t, 5*time.Millisecond, time.Since(start), "a request that hangs does not hold up other keys for long")
		o.put(t, p, "slow", "c")
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		assert.Empty(t, o.list(), "but its own")
		require.NoError(t, p.Flush(t.Context()))
		assert.Equal(t, []string{"b", "a", "c"}, sink.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestCollectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			size := 0
			for i := range records {
				size += records[i].Size()
			}
			assert.LessOrEqual(t, len(records), 5)
			assert.LessOrEqual(t, size, 40)
			time.Sleep(time.Second)
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{MaxInFlight: 1, MaxBatchRecords: 5, MaxBatchBytes: 40})
		var o outcomes
		o.put(t, p, "k", "first")
		synctest.Wait()
		for _, n := range numbered("", 7) {
			o.put(t, p, "k", n)
		}
		for _, n := range []string{strings.Repeat("x", 20), strings.Repeat("y", 20), strings.Repeat("z", 39)} {
			o.put(t, p, "k", n)
		}
		require.NoError(t, p.Shutdown(t.Context()))
		got := sink.requests()
		require.Len(t, got, 5)
		assert.Len(t, got[1], 5)
		assert.Len(t, got[2], 3, "by bytes: two small ones and x")
		assert.Len(t, got[3], 1)
		assert.Len(t, got[4], 1)
	})
}

func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		p := newProducer(t, sink, &producer.Options{Linger: 100 * time.Millisecond, MaxBatchRecords: 3})
		var o outcomes
		start := time.Now()
		o.put(t, p, "k", "a")
		time.Sleep(60 * time.Millisecond)
		o.put(t, p, "k", "b")
		assert.Empty(t, sink.names())
		time.Sleep(40 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, [][]string{{"a", "b"}}, sink.requests())
		assert.Equal(t, start.Add(100*time.Millisecond), sink.calls[0].at)
		for _, n := range []string{"c", "d", "e"} {
			o.put(t, p, "k", n)
		}
		synctest.Wait()
		assert.Len(t, sink.requests(), 2, "a full request does not linger")
		o.put(t, p, "k", "f")
		_, err := p.Put(t.Context(), rec("k", "g"))
		require.NoError(t, err)
		o.put(t, p, "k", "h")
		require.NoError(t, p.Flush(t.Context()))
		assert.Equal(t, start.Add(100*time.Millisecond), time.Now(), "neither does Put nor Flush")
		assert.Equal(t, []string{"f", "g"}, sink.requests()[2])
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Scenario 71.
func TestScenario71LimitsOfARecord(t *testing.T) {
	ctx := t.Context()
	sink := &fakeSink{}
	p := newProducer(t, sink, &producer.Options{MaxRecordSize: 1000})
	defer p.Close()
	headers := func(n int) shardlog.Record {
		r := rec("k", "x")
		r.Headers = make([]shardlog.Header, n)
		return r
	}
	withHeader := func(k, v string) shardlog.Record {
		r := rec("k", "x")
		r.Headers = []shardlog.Header{{Key: k, Value: v}}
		return r
	}
	for name, c := range map[string]struct {
		r     shardlog.Record
		field string // "" if it is fine
	}{
		"largest":               {rec("k", strings.Repeat("x", 999)), ""},
		"one byte more":         {rec("k", strings.Repeat("x", 1000)), "Data"},
		"headers count":         {withHeader("key", strings.Repeat("v", 996)), "Data"},
		"empty data":            {rec("k", ""), ""},
		"longest key":           {rec(strings.Repeat("κ", 256), "x"), ""},
		"one rune more":         {rec(strings.Repeat("κ", 257), "x"), "PartitionKey"},
		"no key":                {rec("", "x"), "PartitionKey"},
		"key is not UTF-8":      {rec("\xff", "x"), "PartitionKey"},
		"most headers":          {headers(256), ""},
		"one header more":       {headers(257), "Headers"},
		"header is not UTF-8":   {withHeader("a", "\xff"), "Headers[0]"},
		"explicit hash key 0":   {shardlog.Record{PartitionKey: "k", ExplicitHashKey: shardlog.NewHashKey(0, 0)}, ""},
		"explicit hash key max": {shardlog.Record{PartitionKey: "k", ExplicitHashKey: shardlog.MaxHashKey}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.Put(ctx, c.r)
			err2 := p.PutAsync(ctx, c.r, nil)
			_, err3 := p.PutBatch(ctx, []shardlog.Record{c.r})
			if c.field == "" {
				require.NoError(t, errors.Join(err, err2, err3))
				return
			}
			for _, err := range []error{err, err2, err3, p.TryPut(c.r, nil)} {
				var bad *shardlog.InvalidError
				require.ErrorAs(t, err, &bad)
				assert.Contains(t, []string{c.field, "records[0]." + c.field}, bad.Field)
			}
		})
	}
	for _, s := range []string{"-1", "340282366920938463463374607431768211456", "01"} {
		_, err := shardlog.ParseHashKey(s)
		require.ErrorIs(t, err, shardlog.ErrInvalid)
	}
}

func TestDataIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, borrow := range []bool{false, true} {
			sink := &fakeSink{}
			p := newProducer(t, sink, &producer.Options{Linger: time.Second, BorrowData: borrow})
			r := rec("k", "aaaa")
			r.Headers = []shardlog.Header{{Key: "h", Value: "1"}}
			r.ShardID, r.SubSequence, r.Arrival = "not mine", 7, time.Now()
			require.NoError(t, p.PutAsync(t.Context(), r, nil))
			copy(r.Data, "bbbb")
			r.Headers[0].Value = "2"
			require.NoError(t, p.Shutdown(t.Context()))
			want := rec("k", "aaaa")
			want.Headers = []shardlog.Header{{Key: "h", Value: "1"}}
			if borrow {
				want.Data, want.Headers = r.Data, r.Headers
			}
			assert.Equal(t, []shardlog.Record{want}, sink.stored)
		}
	})
}

func TestPutBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		bad := errors.New("bad record")
		sink.on = func(_ context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			for i := range records {
				if string(records[i].Data) == "2" {
					return sink.failing(records, bad, i), nil
				}
			}
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{Linger: time.Hour})
		records := []shardlog.Record{rec("k", "0"), rec("l", "1"), rec("k", "2"), rec("k", "3")}
		res, err := p.PutBatch(t.Context(), records)
		var batch *producer.BatchError
		require.ErrorAs(t, err, &batch)
		require.ErrorIs(t, err, bad)
		require.Len(t, res, 4)
		for i := range res {
			assert.Equal(t, i == 2, batch.Errors[i] != nil, "record %d", i)
			assert.Equal(t, i != 2, res[i].Sequence.IsSet())
		}
		assert.Equal(t, [][]string{{"0", "1", "2", "3"}}, sink.requests(), "goes together")
		require.EqualError(t, err, "1 of 4 records failed, the first with: shardlog: put: bad record")

		_, err = p.PutBatch(t.Context(), []shardlog.Record{rec("k", "ok"), rec("", ""), rec("\xff", "")})
		require.ErrorContains(t, err, "records[1].PartitionKey")
		require.ErrorContains(t, err, "records[2].PartitionKey")
		assert.Len(t, sink.requests(), 1, "all or nothing is taken")

		res, err = p.PutBatch(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, res)
		require.NoError(t, p.Shutdown(t.Context()))
		_, err = p.PutBatch(t.Context(), records)
		require.ErrorIs(t, err, shardlog.ErrClosed)
	})
}

func TestPutBatchLargerThanTheBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		p := newProducer(t, sink, &producer.Options{BufferRecords: 7})
		var records []shardlog.Record
		names := numbered("n", 1234)
		for _, n := range names {
			records = append(records, rec("k", n))
		}
		_, err := p.PutBatch(t.Context(), records)
		require.NoError(t, err)
		assert.Equal(t, names, sink.names())

		sink.on = func(ctx context.Context, _ int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			return nil, sleep(ctx, time.Hour)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		res, err := p.PutBatch(ctx, records)
		require.Len(t, res, 1234)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var batch *producer.BatchError
		require.ErrorAs(t, err, &batch)
		for i, err := range batch.Errors {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, i < 7, errors.Is(err, shardlog.ErrUnknownOutcome), "record %d", i)
		}
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestPutContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		sink.on = func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error) {
			time.Sleep(10 * time.Second) // ignores its context
			return sink.store(records), nil
		}
		p := newProducer(t, sink, &producer.Options{MaxInFlight: 1})
		mine := errors.New("no patience")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, mine)
		defer cancel()
		start := time.Now()
		inFlight := make(chan error)
		go func() {
			_, err := p.Put(ctx, rec("k", "a"))
			inFlight <- err
		}()
		synctest.Wait()
		_, err := p.Put(ctx, rec("l", "b"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, mine)
		require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome, "was not sent")
		err = <-inFlight
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(start))
		_, err = p.Put(ctx, rec("k", "c"))
		require.ErrorIs(t, err, context.DeadlineExceeded, "had ended before")
		require.ErrorIs(t, p.PutAsync(ctx, rec("k", "d"), nil), context.DeadlineExceeded)
		_, err = p.Put(t.Context(), rec("k", "e"))
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "e"}, sink.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}
