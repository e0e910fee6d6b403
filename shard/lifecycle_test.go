package shard_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/shard"
	"github.com/shardlog/shardlog/stream"
)

func TestAHandleOfAClosedShard(t *testing.T) {
	_, st := openStream(t, stream.Config{})
	s := handle(t, st, 0)
	records := on(t, s, 1)
	res := appendTo(t, s, 2)
	children, err := st.Split(t.Context(), s.ID(), shardlog.HashKey{})
	require.NoError(t, err)

	_, err = s.Append(t.Context(), records)
	require.ErrorIs(t, err, shardlog.ErrShardClosed)
	_, err = s.Append(t.Context(), nil)
	require.ErrorIs(t, err, shardlog.ErrShardClosed)
	_, err = s.PutIf(t.Context(), res[1].Sequence, records)
	require.ErrorIs(t, err, shardlog.ErrShardClosed)

	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.True(t, info.Closed)
	require.Equal(t, res[1].Sequence, info.Last)
	p, err := s.Read(t.Context(), shardlog.ReadRequest{})
	require.NoError(t, err)
	require.True(t, p.End)
	require.Equal(t, children, p.Children)
	require.Len(t, p.Records, 2)
	require.NoError(t, s.Trim(t.Context(), shardlog.Latest()))
	require.Empty(t, data(t, s))
	require.Same(t, s, handle(t, st, 0), "as long as it exists a shard has one handle")
}

// Retention removes a closed shard; a deletion, all of the stream. A new stream
// of the same name is another one.
func TestAHandleOfAShardThatIsGone(t *testing.T) {
	gone := func(t *testing.T, s *shard.Shard, records []shardlog.Record) {
		t.Helper()
		for name, err := range calls(t.Context(), t, s, records) {
			require.ErrorIs(t, err, shardlog.ErrNotFound, name)
			requirePlace(t, s, err, name)
		}
	}
	t.Run("expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, st := openStream(t, stream.Config{Retention: time.Minute})
			s := handle(t, st, 0)
			records := on(t, s, 1)
			_, err := st.Split(t.Context(), s.ID(), shardlog.HashKey{})
			require.NoError(t, err)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			gone(t, s, records)
			_, err = st.Shard(s.ID())
			require.ErrorIs(t, err, shardlog.ErrNotFound)
		})
	})
	t.Run("deleted", func(t *testing.T) {
		db, st := openStream(t, stream.Config{})
		s := handle(t, st, 0)
		records := on(t, s, 1)
		appendTo(t, s, 1)
		require.NoError(t, db.Delete(t.Context(), "events"))
		gone(t, s, records)
		_, err := st.Shard(s.ID())
		require.ErrorIs(t, err, shardlog.ErrNotFound)

		st2, err := db.Create(t.Context(), "events", stream.Config{})
		require.NoError(t, err)
		s2 := handle(t, st2, 0)
		require.Equal(t, s.ID(), s2.ID())
		appendTo(t, s2, 3)
		gone(t, s, records)
		require.Len(t, data(t, s2), 3, "neither appended to nor trimmed")
	})
	t.Run("database closed", func(t *testing.T) {
		db, st := openStream(t, stream.Config{})
		s := handle(t, st, 0)
		records := on(t, s, 1)
		require.NoError(t, db.Close())
		for name, err := range calls(t.Context(), t, s, records) {
			require.ErrorIs(t, err, shardlog.ErrClosed, name)
			requirePlace(t, s, err, name)
		}
		_, err := st.Shard(s.ID())
		require.ErrorIs(t, err, shardlog.ErrClosed)
	})
}

// requirePlace checks that an error says where it arose.
func requirePlace(t *testing.T, s *shard.Shard, err error, name string) {
	t.Helper()
	var e *shardlog.Error
	require.ErrorAs(t, err, &e, name)
	require.Equal(t, [2]string{s.Stream(), s.ID()}, [2]string{e.Stream, e.Shard}, name)
	require.Equal(t, 1, strings.Count(err.Error(), s.ID()), "%s: %v", name, err)
}

func TestContextsThatHaveEndedOrAreNone(t *testing.T) {
	_, st := openStream(t, stream.Config{})
	s := handle(t, st, 0)
	records := on(t, s, 1)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for name, err := range calls(ctx, t, s, records) {
		require.ErrorIs(t, err, why, name)
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome, name)
		requirePlace(t, s, err, name)
	}
	var none context.Context
	for name, err := range calls(none, t, s, records) {
		require.ErrorIs(t, err, shardlog.ErrInvalid, name)
		requirePlace(t, s, err, name)
	}
	require.Empty(t, data(t, s), "nothing has an effect later")
}

func TestTrimRemovesWhatIsBefore(t *testing.T) {
	dir := t.TempDir()
	db, err := stream.Open(dir, nil)
	require.NoError(t, err)
	st, err := db.Create(t.Context(), "events", stream.Config{Shards: 2})
	require.NoError(t, err)
	s := handle(t, st, 0)
	var res []shardlog.PutResult
	for range 4 {
		r := on(t, s, 1)
		r[0].Data = make([]byte, 5000) // each one is a piece of its own
		one, err := s.Append(t.Context(), r)
		require.NoError(t, err)
		res = append(res, one...)
	}
	require.NoError(t, s.Trim(t.Context(), shardlog.TrimHorizon()))
	require.Len(t, data(t, s), 4)
	require.NoError(t, s.Trim(t.Context(), shardlog.At(res[2].Sequence)))
	require.Len(t, data(t, s), 2)
	require.NoError(t, s.Trim(t.Context(), shardlog.At(res[0].Sequence)), "removed already")
	require.Len(t, data(t, s), 2)
	_, err = s.Read(t.Context(), shardlog.ReadRequest{From: shardlog.At(res[0].Sequence)})
	var trimmed *shardlog.TrimmedError
	require.ErrorAs(t, err, &trimmed)
	require.EqualValues(t, 2, trimmed.Missed)
	require.ErrorIs(t, s.Trim(t.Context(), shardlog.At(shardlog.NewSequenceNumber(1, 1, 1, 1))), shardlog.ErrInvalid)

	require.NoError(t, db.Close())
	db, err = stream.Open(dir, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	st, err = db.Stream(t.Context(), "events")
	require.NoError(t, err)
	s = handle(t, st, 0)
	require.Len(t, data(t, s), 2)
	require.NoError(t, s.Trim(t.Context(), shardlog.Latest()))
	require.Empty(t, data(t, s))
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.Records)
	want, _ := res[3].Sequence.Counter()
	last, _ := info.LastRecord.Counter()
	require.Equal(t, want, last)
	_, err = s.PutIf(t.Context(), info.LastRecord, on(t, s, 1))
	require.NoError(t, err)
	require.Len(t, data(t, s), 1)
}

// Readers and a trimming caller do not disturb a writer, and what is left is
// always the end of what was written.
func TestTrimUnderAppendsAndReads(t *testing.T) {
	_, st := openStream(t, stream.Config{})
	s := handle(t, st, 0)
	records := on(t, s, 1)
	const n = 300
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			records := append([]shardlog.Record(nil), records...)
			records[0].Data = fmt.Append(nil, i)
			if _, err := s.Append(t.Context(), records); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range n / 10 {
		if err := s.Trim(t.Context(), shardlog.Latest()); err != nil {
			t.Error(err)
		}
		last := -1
		for r, err := range s.Records(t.Context(), shardlog.TrimHorizon()) {
			if err != nil {
				t.Error(err)
				break
			}
			var at int
			if _, err := fmt.Sscan(string(r.Data), &at); err != nil || last >= 0 && at != last+1 {
				t.Errorf("%d after %d, %v", at, last, err)
			}
			last = at
		}
	}
	wg.Wait()
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, info.Records, int64(n))
}

// Writers hold handles while their shards are split and merged: each record is
// stored once, on a shard whose range it is in, or refused as a whole with an
// error that says that the shard was closed.
func TestHandlesWhileTheStreamIsResharded(t *testing.T) {
	_, st := openStream(t, stream.Config{Shards: 2})
	const writers, each = 4, 60
	reshardDone := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			if err := writeThroughHandles(t.Context(), st, fmt.Sprint("key", w), each); err != nil {
				t.Error(err)
			}
		})
	}
	go func() {
		defer close(reshardDone)
		for i := range 12 {
			if err := st.Reshard(context.WithoutCancel(t.Context()), 1+i%5); err != nil {
				t.Error(err)
			}
		}
	}()
	wg.Wait()
	<-reshardDone

	next := map[string]int{}
	infos, err := st.Shards(t.Context())
	require.NoError(t, err)
	for _, info := range infos { // parents come before their children
		s, err := st.Shard(info.ID)
		require.NoError(t, err)
		for r, err := range s.Records(t.Context(), shardlog.TrimHorizon()) {
			require.NoError(t, err)
			k := shardlog.KeyHash(r.PartitionKey)
			require.True(t, k.Compare(info.HashStart) >= 0 && k.Compare(info.HashEnd) <= 0)
			require.Equal(t, fmt.Sprint(next[r.PartitionKey]), string(r.Data))
			next[r.PartitionKey]++
		}
	}
	for w := range writers {
		require.Equal(t, each, next[fmt.Sprint("key", w)])
	}
}

// writeThroughHandles appends n records of a key, and looks for its shard again
// whenever that was closed.
func writeThroughHandles(ctx context.Context, st *stream.Stream, key string, n int) error {
	var s *shard.Shard
	for i := 0; i < n; {
		if s == nil {
			infos, err := st.Shards(ctx)
			if err != nil {
				return err
			}
			for _, info := range infos {
				if k := shardlog.KeyHash(key); !info.Closed && k.Compare(info.HashStart) >= 0 && k.Compare(info.HashEnd) <= 0 {
					if s, err = st.Shard(info.ID); err != nil {
						return err
					}
				}
			}
		}
		_, err := s.Append(ctx, []shardlog.Record{{PartitionKey: key, Data: fmt.Append(nil, i)}})
		switch {
		case errors.Is(err, shardlog.ErrShardClosed):
			s = nil
		case err != nil:
			return err
		default:
			i++
		}
	}
	return nil
}

// What PutIf expects is still known when retention has removed every record and
// the database was opened again.
func TestLastRecordOutlivesItsRecord(t *testing.T) {
	dir := t.TempDir()
	db, err := stream.Open(dir, nil)
	require.NoError(t, err)
	st, err := db.Create(t.Context(), "events", stream.Config{})
	require.NoError(t, err)
	s := handle(t, st, 0)
	last := appendTo(t, s, 3)[2].Sequence
	require.NoError(t, s.Trim(t.Context(), shardlog.Latest()))
	require.NoError(t, db.Close())

	db, err = stream.Open(dir, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	st, err = db.Stream(t.Context(), "events")
	require.NoError(t, err)
	s = handle(t, st, 0)
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.Records)
	for _, expected := range []shardlog.SequenceNumber{last, info.LastRecord} {
		_, err = s.PutIf(t.Context(), expected, nil)
		require.NoError(t, err)
	}
	_, err = s.PutIf(t.Context(), shardlog.SequenceNumber{}, nil)
	require.ErrorIs(t, err, shardlog.ErrConflict)
}
