package shard_test

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

func TestAppendStoresInOrderOnThisShard(t *testing.T) {
	_, st := openStream(t, stream.Config{Shards: 2})
	s := handle(t, st, 1)
	require.Equal(t, "events", s.Stream())
	require.Equal(t, shardlog.ShardID(1), s.ID())
	res := appendTo(t, s, 3)
	for i := range res {
		require.NoError(t, res[i].Err)
		require.Equal(t, s.ID(), res[i].ShardID)
		require.True(t, i == 0 || res[i].Sequence.Compare(res[i-1].Sequence) > 0)
	}
	require.Equal(t, []string{"0", "1", "2"}, data(t, s))
	require.Empty(t, data(t, handle(t, st, 0)))

	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, s.ID(), info.ID)
	require.Equal(t, res[2].Sequence, info.LastRecord)
	require.EqualValues(t, 3, info.Records)
	require.NotZero(t, info.Bytes)
	require.NotZero(t, info.Blocks)
	require.False(t, info.Oldest.IsZero() || info.Newest.Before(info.Oldest))

	none, err := s.Append(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
	empty, err := handle(t, st, 0).Info(t.Context())
	require.NoError(t, err)
	require.False(t, empty.LastRecord.IsSet())
	require.True(t, empty.Oldest.IsZero() && empty.Newest.IsZero())
}

// One record of another shard refuses all, wherever it is among them, and
// however its place is chosen.
func TestAppendRefusesRecordsOfOtherShards(t *testing.T) {
	_, st := openStream(t, stream.Config{Shards: 2, DedupWindow: time.Minute})
	s, other := handle(t, st, 0), handle(t, st, 1)
	foreign := on(t, other, 1)[0]
	hashed := foreign
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		if k := shardlog.KeyHash(k); k.Compare(foreign.ExplicitHashKey) < 0 {
			continue
		}
		hashed = shardlog.Record{PartitionKey: k}
		break
	}
	require.False(t, hashed.ExplicitHashKey.IsSet())
	for _, bad := range []shardlog.Record{foreign, hashed} {
		for at := range 3 {
			records := on(t, s, 3)
			records[at] = bad
			for name, put := range map[string]func() ([]shardlog.PutResult, error){
				"append": func() ([]shardlog.PutResult, error) { return s.Append(t.Context(), records) },
				"put if": func() ([]shardlog.PutResult, error) {
					return s.PutIf(t.Context(), shardlog.SequenceNumber{}, records)
				},
			} {
				res, err := put()
				require.ErrorIs(t, err, shardlog.ErrWrongShard)
				require.Nil(t, res)
				var e *shardlog.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, []string{name, "events", s.ID()}, []string{e.Op, e.Stream, e.Shard})
				require.Equal(t, 1, strings.Count(err.Error(), "shardlog:"), "%v", err)
			}
		}
	}
	// Also if the other shard has the record already.
	bad := foreign
	bad.DedupID = "x"
	_, err := other.Append(t.Context(), []shardlog.Record{bad})
	require.NoError(t, err)
	_, err = s.Append(t.Context(), append(on(t, s, 1), bad))
	require.ErrorIs(t, err, shardlog.ErrWrongShard)

	require.Empty(t, data(t, s))
	require.Len(t, data(t, other), 1)
}

// One iterator may be used by several loops at the same time; the race detector
// looks for what they share.
func TestAnIteratorByManyAtTheSameTime(t *testing.T) {
	_, st := openStream(t, stream.Config{})
	s := handle(t, st, 0)
	appendTo(t, s, 100)
	for name, all := range map[string]iter.Seq2[shardlog.Record, error]{
		"shard":  s.Records(t.Context(), shardlog.TrimHorizon()),
		"stream": st.Records(t.Context(), s.ID(), shardlog.TrimHorizon()),
	} {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				n := 0
				for _, err := range all {
					if err != nil {
						t.Error(name, err)
					}
					n++
				}
				if n != 100 {
					t.Error(name, n)
				}
			})
		}
		wg.Wait()
	}
}

func TestAppendChecksRecordsAsPutDoes(t *testing.T) {
	_, st := openStream(t, stream.Config{MaxRecordSize: 100})
	s := handle(t, st, 0)
	headers := make([]shardlog.Header, shardlog.MaxHeaders+1)
	for _, bad := range []shardlog.Record{
		{}, {PartitionKey: "\xff"}, {PartitionKey: strings.Repeat("k", 257)}, {PartitionKey: "k", Data: make([]byte, 100)},
		{PartitionKey: "k", Headers: headers}, {PartitionKey: "k", DedupID: "no window"},
	} {
		_, want := st.Put(t.Context(), bad)
		require.ErrorIs(t, want, shardlog.ErrInvalid)
		var i, j *shardlog.InvalidError
		require.ErrorAs(t, want, &i)
		_, err := s.Append(t.Context(), append(on(t, s, 1), bad))
		require.ErrorIs(t, err, shardlog.ErrInvalid)
		require.ErrorAs(t, err, &j)
		require.Equal(t, "records[1]."+i.Field, j.Field)
		require.Equal(t, i.Limit, j.Limit)
		_, err = s.PutIf(t.Context(), shardlog.SequenceNumber{}, append(on(t, s, 1), bad))
		require.ErrorIs(t, err, shardlog.ErrInvalid)
	}
	_, err := s.Append(t.Context(), make([]shardlog.Record, stream.MaxTxRecords+1))
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	require.Empty(t, data(t, s))
}

func TestAppendBoundsItsTransaction(t *testing.T) {
	_, st := openStream(t, stream.Config{MaxRecordSize: shardlog.MaxRecordSize})
	s := handle(t, st, 0)
	big := on(t, s, 2)
	for i := range big {
		big[i].Data = make([]byte, 8<<20)
	}
	_, err := s.Append(t.Context(), big)
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	_, err = s.PutIf(t.Context(), shardlog.SequenceNumber{}, big)
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	require.Empty(t, data(t, s))
	for i := range big {
		big[i].Data = big[i].Data[1:] // with its key it is 8 MiB
	}
	_, err = s.Append(t.Context(), big)
	require.NoError(t, err)
	require.Len(t, data(t, s), 2)
}

func TestAppendKnowsDuplicates(t *testing.T) {
	_, st := openStream(t, stream.Config{DedupWindow: time.Minute})
	s := handle(t, st, 0)
	first, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k", DedupID: "1"})
	require.NoError(t, err)
	res, err := s.Append(t.Context(), []shardlog.Record{
		{PartitionKey: "k", DedupID: "1"}, {PartitionKey: "k", DedupID: "2"}, {PartitionKey: "k", DedupID: "2"}, {PartitionKey: "k"},
	})
	require.NoError(t, err)
	require.True(t, res[0].Duplicate && !res[1].Duplicate && res[2].Duplicate && !res[3].Duplicate)
	require.Equal(t, first.Sequence, res[0].Sequence)
	require.Equal(t, res[1].Sequence, res[2].Sequence)
	again, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k", DedupID: "2"})
	require.NoError(t, err)
	require.True(t, again.Duplicate)
	require.Len(t, data(t, s), 3)
}

func TestRateLimitsHoldForHandles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, st := openStream(t, stream.Config{Limits: stream.Limits{WriteRecords: 10, ReadCalls: 2}})
		s := handle(t, st, 0)
		appendTo(t, s, 8)
		throttled := func(err error) time.Duration {
			t.Helper()
			var e *shardlog.Error
			require.ErrorIs(t, err, shardlog.ErrThroughputExceeded)
			require.ErrorAs(t, err, &e)
			require.Equal(t, s.ID(), e.Shard)
			require.Equal(t, 1, strings.Count(err.Error(), "shardlog:"), "%v", err)
			require.Positive(t, e.RetryAfter)
			return e.RetryAfter
		}
		_, err := s.Append(t.Context(), on(t, s, 3))
		wait := throttled(err)
		_, err = s.PutIf(t.Context(), shardlog.SequenceNumber{}, on(t, s, 3))
		throttled(err)
		require.Len(t, data(t, s), 8, "all or nothing; iterations are not limited")
		time.Sleep(wait)
		appendTo(t, s, 3)
		require.EqualValues(t, 6, st.Stats().Shards[0].WriteThrottles)

		for range 2 {
			_, err := s.Read(t.Context(), shardlog.ReadRequest{})
			require.NoError(t, err)
		}
		_, err = s.Read(t.Context(), shardlog.ReadRequest{})
		wait = throttled(err)
		_, err = s.ReadDedicated(t.Context(), shardlog.ReadRequest{})
		require.NoError(t, err)
		_, err = s.Resolve(t.Context(), shardlog.Latest())
		require.NoError(t, err)
		time.Sleep(wait)
		_, err = s.Read(t.Context(), shardlog.ReadRequest{})
		require.NoError(t, err)
	})
}

func TestPutIfExpectsTheLastRecord(t *testing.T) {
	_, st := openStream(t, stream.Config{})
	s := handle(t, st, 0)
	var last shardlog.SequenceNumber
	for range 3 {
		res, err := s.PutIf(t.Context(), last, on(t, s, 2))
		require.NoError(t, err)
		_, err = s.PutIf(t.Context(), last, on(t, s, 2))
		var c *shardlog.ConflictError
		require.ErrorAs(t, err, &c)
		require.Equal(t, res[1].Sequence, c.Actual)
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, c.Actual, info.LastRecord)
		last = info.LastRecord
	}
	require.Len(t, data(t, s), 6)
}

func TestReadThroughAHandle(t *testing.T) {
	_, st := openStream(t, stream.Config{Shards: 2})
	s := handle(t, st, 0)
	res := appendTo(t, s, 5)
	p, err := s.Read(t.Context(), shardlog.ReadRequest{From: shardlog.After(res[1].Sequence), MaxRecords: 2})
	require.NoError(t, err)
	require.Len(t, p.Records, 2)
	require.Equal(t, res[2].Sequence, p.Records[0].Sequence)
	require.EqualValues(t, 1, p.BehindRecords)
	same, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: s.ID(), From: shardlog.After(res[1].Sequence), MaxRecords: 2})
	require.NoError(t, err)
	require.Equal(t, same, p)
	for _, req := range []shardlog.ReadRequest{
		{ShardID: shardlog.ShardID(1)}, {MaxRecords: -1}, {MaxBytes: shardlog.MaxPageBytes + 1}, {Wait: -1},
		{From: shardlog.At(shardlog.NewSequenceNumber(1, 1, 1, 1))},
	} {
		_, err := s.Read(t.Context(), req)
		require.ErrorIs(t, err, shardlog.ErrInvalid)
	}
	at, err := s.Resolve(t.Context(), shardlog.TrimHorizon())
	require.NoError(t, err)
	require.Equal(t, shardlog.At(res[0].Sequence), at)
	at, err = s.Resolve(t.Context(), shardlog.Latest())
	require.NoError(t, err)
	require.Positive(t, at.Sequence().Compare(res[4].Sequence))
	n := 0
	for r, err := range s.Scan(t.Context(), shardlog.TrimHorizon()) {
		require.NoError(t, err)
		require.Equal(t, res[n].Sequence, r.Sequence)
		n++
	}
	require.Equal(t, 5, n)
}

func TestTailFollowsUntilTheShardIsClosed(t *testing.T) {
	_, st := openStream(t, stream.Config{})
	s := handle(t, st, 0)
	seen, done := make(chan string), make(chan error)
	go func() {
		for r, err := range s.Tail(context.WithoutCancel(t.Context()), shardlog.TrimHorizon()) {
			if err != nil {
				done <- err
				return
			}
			seen <- string(r.Data)
		}
		done <- nil
	}()
	for range 3 {
		appendTo(t, s, 1)
		require.Equal(t, "0", <-seen)
	}
	_, err := st.Split(t.Context(), s.ID(), shardlog.HashKey{})
	require.NoError(t, err)
	require.NoError(t, <-done)

	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	for _, err := range s.Tail(ctx, shardlog.TrimHorizon()) {
		require.ErrorIs(t, err, why)
	}
	_, err = s.Append(ctx, nil)
	require.ErrorIs(t, err, why)
}

// A position inside an aggregated record begins with the whole of it, however it
// is read, and stays inside when it is resolved. Inside any other record nothing
// is left.
func TestPositionsInsideRecords(t *testing.T) {
	_, st := openStream(t, stream.Config{})
	s := handle(t, st, 0)
	records := on(t, s, 4)
	for _, i := range []int{1, 2} {
		records[i].Data = []byte(shardlog.AggregateMagic + strconv.Itoa(i))
	}
	res, err := s.Append(t.Context(), records)
	require.NoError(t, err)
	for i, first := range []int{1, 1, 2, 4} {
		from := shardlog.AfterSub(res[i].Sequence, 3)
		req := shardlog.ReadRequest{ShardID: s.ID(), From: from}
		for name, read := range map[string]func(context.Context, shardlog.ReadRequest) (shardlog.Page, error){
			"read": s.Read, "dedicated": s.ReadDedicated, "stream": st.Read, "stream, dedicated": st.ReadDedicated,
		} {
			p, err := read(t.Context(), req)
			require.NoError(t, err)
			require.Len(t, p.Records, 4-first, name)
		}
		for name, over := range map[string]func(context.Context, shardlog.Position) iter.Seq2[shardlog.SequenceNumber, error]{
			"records": numbersOf(s.Records), "tail": numbersOf(s.Tail), "scan": lentNumbersOf(s.Scan), "tail by scan": lentNumbersOf(s.ScanTail),
		} {
			n := first
			ctx, cancel := context.WithCancel(t.Context())
			if first == 4 {
				cancel() // nothing is left, and a tail would wait
			}
			for r, err := range over(ctx, from) {
				if n == 4 {
					require.ErrorIs(t, err, context.Canceled)
					break
				}
				require.NoError(t, err, name)
				require.Equal(t, res[n].Sequence, r, name)
				if n++; n == 4 {
					cancel()
				}
			}
			if cancel(); !strings.HasPrefix(name, "tail") {
				require.Equal(t, 4, n, name)
			}
		}
		at, err := s.Resolve(t.Context(), from)
		require.NoError(t, err)
		switch i {
		case 0:
			require.Equal(t, shardlog.At(res[1].Sequence), at)
		case 3:
			require.Positive(t, at.Sequence().Compare(res[3].Sequence))
		default:
			require.Equal(t, from, at)
		}
	}
	require.NoError(t, s.Trim(t.Context(), shardlog.AfterSub(res[2].Sequence, 3)))
	require.Contains(t, data(t, s), shardlog.AggregateMagic+"2")
}
