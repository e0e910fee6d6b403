package logstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func TestAppendIf(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 2, Options{})
	s := ss[0]
	conflict := func(s *Shard, expected, actual shardlog.SequenceNumber) {
		t.Helper()
		_, err := s.log.AppendIf(ctx, s, expected, []shardlog.Record{rec("refused")})
		var c *shardlog.ConflictError
		require.ErrorAs(t, err, &c)
		require.ErrorIs(t, err, shardlog.ErrConflict)
		require.Equal(t, expected, c.Expected)
		require.Equal(t, counterOf(actual), counterOf(c.Actual))
	}
	unset := shardlog.SequenceNumber{}
	conflict(s, s.sequence(base+1, 0), unset)
	first, err := l.AppendIf(ctx, s, unset, []shardlog.Record{rec("a"), rec("b")})
	require.NoError(t, err)
	require.Len(t, first, 2)
	conflict(s, unset, first[1])
	conflict(s, first[0], first[1])
	conflict(s, ss[1].sequence(counterOf(first[1]), 0), first[1])                   // of another shard
	conflict(s, shardlog.NewSequenceNumber(1, 0, counterOf(first[1]), 0), first[1]) // of an earlier stream
	conflict(s, s.sequence(counterOf(first[1])+1, 0), first[1])                     // of the future
	other := shardlog.NewSequenceNumber(1000, 0, counterOf(first[1]), 5)            // the second it arrived does not matter
	none, err := l.AppendIf(ctx, s, other, nil)
	require.NoError(t, err)
	require.Empty(t, none)
	next, err := l.AppendIf(ctx, s, other, []shardlog.Record{rec("c")})
	require.NoError(t, err)
	require.NoError(t, put(l, s, "d"))
	conflict(s, next[0], s.Info().Last)
	require.Equal(t, []string{"a", "b", "c", "d"}, contents(t, s))

	// What was trimmed is still the last record, also when opened again.
	last := s.Info().Last
	require.NoError(t, s.Trim(ctx, counterOf(last)+1))
	conflict(s, unset, last)
	again, as := openOn(t, store, 2, Options{})
	conflict(as[0], unset, last)
	_, err = again.AppendIf(ctx, as[0], last, []shardlog.Record{rec("e")})
	require.NoError(t, err)

	_, err = again.Change(ctx, Change{Close: as[:1]})
	require.NoError(t, err)
	_, err = again.AppendIf(ctx, as[0], as[0].Info().Last, []shardlog.Record{rec("f")})
	require.ErrorIs(t, err, shardlog.ErrShardClosed)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = again.AppendIf(ended, as[1], unset, []shardlog.Record{rec("g")})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, contents(t, as[1]), "nothing is written for a context that has ended")
}

// The records of one AppendIf are there together or not at all, whatever their size.
func TestAppendIfIsAtomicBeyondAGroup(t *testing.T) {
	for _, mode := range []kvtest.Mode{kvtest.Refuse, kvtest.Torn, kvtest.TornApplied} {
		store := kvtest.New(kv.NewMemory())
		l, ss := openOn(t, store, 1, Options{})
		rs := make([]shardlog.Record, 12)
		for i := range rs {
			rs[i] = shardlog.Record{PartitionKey: "k", Data: make([]byte, 1<<20)}
		}
		store.FailAt(1, kvtest.Commit, mode, nil)
		_, err := l.AppendIf(ctx, ss[0], shardlog.SequenceNumber{}, rs)
		require.ErrorIs(t, err, kvtest.ErrInjected)
		require.Equal(t, mode != kvtest.Refuse, errors.Is(err, shardlog.ErrUnknownOutcome))
		store.Revive()
		_, as := openOn(t, store, 1, Options{})
		want := 0
		if mode == kvtest.TornApplied {
			want = len(rs)
		}
		require.Len(t, contents(t, as[0]), want)
	}
}

func TestAppendIfHasOneWinnerInEachRound(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	const writers, rounds = 8, 100
	var last shardlog.SequenceNumber
	for round := range rounds {
		fails := round%7 == 3
		if fails {
			store.FailAt(1, kvtest.Commit, kvtest.Refuse, nil)
		}
		var won atomic.Int32
		var seq atomic.Pointer[shardlog.SequenceNumber]
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				got, err := l.AppendIf(ctx, ss[0], last, []shardlog.Record{rec(fmt.Sprint(round, " ", w))})
				switch {
				case err == nil:
					won.Add(1)
					seq.Store(&got[0])
				case !errors.Is(err, shardlog.ErrConflict) && !errors.Is(err, kvtest.ErrInjected):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if fails && won.Load() == 0 {
			continue // the winner's commit failed after the others had lost
		}
		require.EqualValues(t, 1, won.Load())
		require.Positive(t, seq.Load().Compare(last))
		last = *seq.Load()
		require.Equal(t, last, ss[0].Info().Last)
	}
}

func TestArrivalsDoNotGoBackWithTheClock(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	s := ss[0]
	require.NoError(t, put(l, s, "a"))
	// As if the clock had been an hour ahead, and was set right.
	l.mu.Lock()
	s.lastMs += time.Hour.Milliseconds()
	l.mu.Unlock()
	require.NoError(t, put(l, s, "b"))
	require.NoError(t, put(l, s, numbers(0, 20, 3000)...))
	l, ss = openOn(t, store, 1, Options{})
	require.NoError(t, put(l, ss[0], "c"))
	var last time.Time
	n := 0
	for r, err := range ss[0].Records(ctx, shardlog.TrimHorizon()) {
		require.NoError(t, err)
		require.False(t, r.Arrival.Before(last), "record %d", n)
		require.Equal(t, r.Arrival.Unix(), arrivalOf(r.Sequence))
		last = r.Arrival
		n++
	}
	require.Equal(t, 23, n)
	require.Greater(t, time.Until(last), 50*time.Minute)
}
