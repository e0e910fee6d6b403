package shard_test

import (
	"context"
	"iter"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/shard"
	"github.com/shardlog/shardlog/stream"
)

// openStream returns a stream of a database in memory.
func openStream(t testing.TB, cfg stream.Config) (*stream.DB, *stream.Stream) {
	t.Helper()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	st, err := db.Create(t.Context(), "events", cfg)
	require.NoError(t, err)
	return db, st
}

func handle(t testing.TB, st *stream.Stream, n uint32) *shard.Shard {
	t.Helper()
	s, err := st.Shard(shardlog.ShardID(n))
	require.NoError(t, err)
	return s
}

// on returns n records that belong on the shard.
func on(t testing.TB, s *shard.Shard, n int) []shardlog.Record {
	t.Helper()
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	records := make([]shardlog.Record, n)
	for i := range records {
		records[i] = shardlog.Record{PartitionKey: "k", ExplicitHashKey: info.HashStart, Data: []byte(strconv.Itoa(i))}
	}
	return records
}

func appendTo(t testing.TB, s *shard.Shard, n int) []shardlog.PutResult {
	t.Helper()
	res, err := s.Append(t.Context(), on(t, s, n))
	require.NoError(t, err)
	require.Len(t, res, n)
	return res
}

func data(t testing.TB, s *shard.Shard) (all []string) {
	t.Helper()
	for r, err := range s.Records(t.Context(), shardlog.TrimHorizon()) {
		require.NoError(t, err)
		require.Equal(t, s.ID(), r.ShardID)
		all = append(all, string(r.Data))
	}
	return all
}

// calls are all methods of a handle that may fail.
func calls(ctx context.Context, t testing.TB, s *shard.Shard, records []shardlog.Record) map[string]error {
	t.Helper()
	errs := map[string]error{}
	_, errs["Info"] = s.Info(ctx)
	_, errs["Append"] = s.Append(ctx, records)
	_, errs["PutIf"] = s.PutIf(ctx, shardlog.SequenceNumber{}, records)
	_, errs["Read"] = s.Read(ctx, shardlog.ReadRequest{})
	_, errs["ReadDedicated"] = s.ReadDedicated(ctx, shardlog.ReadRequest{})
	_, errs["Resolve"] = s.Resolve(ctx, shardlog.Latest())
	errs["Trim"] = s.Trim(ctx, shardlog.Latest())
	for _, err := range s.Records(ctx, shardlog.TrimHorizon()) {
		errs["Records"] = err
	}
	for _, err := range s.Scan(ctx, shardlog.TrimHorizon()) {
		errs["Scan"] = err
	}
	for _, err := range s.Tail(ctx, shardlog.TrimHorizon()) {
		errs["Tail"] = err
	}
	for _, err := range s.ScanTail(ctx, shardlog.TrimHorizon()) {
		errs["ScanTail"] = err
	}
	require.Len(t, errs, 11)
	return errs
}

func init() { logstore.PoisonBorrowed(true) }

// numbersOf makes an iteration over records one over their numbers.
func numbersOf(over func(context.Context, shardlog.Position) iter.Seq2[shardlog.Record, error]) func(context.Context, shardlog.Position) iter.Seq2[shardlog.SequenceNumber, error] {
	return func(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.SequenceNumber, error] {
		return func(yield func(shardlog.SequenceNumber, error) bool) {
			over(ctx, from)(func(r shardlog.Record, err error) bool { return yield(r.Sequence, err) })
		}
	}
}

// lentNumbersOf is numbersOf for records that are borrowed.
func lentNumbersOf(over func(context.Context, shardlog.Position) iter.Seq2[*shardlog.Record, error]) func(context.Context, shardlog.Position) iter.Seq2[shardlog.SequenceNumber, error] {
	return numbersOf(func(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
		return func(yield func(shardlog.Record, error) bool) {
			over(ctx, from)(func(r *shardlog.Record, err error) bool {
				if err != nil {
					return yield(shardlog.Record{}, err)
				}
				return yield(*r, nil)
			})
		}
	})
}
