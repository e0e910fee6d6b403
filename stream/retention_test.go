package stream

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func TestRecordsExpireByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{})
		put(t, st, "a", "old")
		time.Sleep(12 * time.Hour)
		put(t, st, "a", "young")
		time.Sleep(12*time.Hour - time.Minute)
		synctest.Wait()
		require.Len(t, readAll(t, st, shardID(0)), 2, "23 h 59 min after the first record")
		time.Sleep(time.Minute + 2*time.Second)
		left := readAll(t, st, shardID(0))
		require.Len(t, left, 1)
		require.Equal(t, "young", string(left[0].Data))
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		require.Empty(t, readAll(t, st, shardID(0)))
		require.Zero(t, st.Stats().Bytes)
	})
}

// The bound holds for what is written after the database was idle, too, and
// not only at the next full hour.
func TestShortRetentionHoldsAfterIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		st := create(t, db, "s", Config{Retention: time.Minute})
		for range 5 {
			time.Sleep(7 * time.Minute)
			put(t, st, "a", "x")
			time.Sleep(59 * time.Second)
			synctest.Wait()
			require.Len(t, readAll(t, st, shardID(0)), 1)
			time.Sleep(2*time.Second + time.Minute/expiryGrain)
			synctest.Wait()
			require.Empty(t, readAll(t, st, shardID(0)))
		}
		short := create(t, db, "short", Config{Retention: MinRetention})
		put(t, short, "a", "x")
		time.Sleep(MinRetention + MinRetention/expiryGrain + 2*time.Millisecond)
		synctest.Wait()
		require.Empty(t, readAll(t, short, shardID(0)))
	})
}

func TestRetentionIsChangedWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{})
		put(t, st, "a", "1")
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		require.NoError(t, st.SetRetention(t.Context(), 48*time.Hour, 0))
		put(t, st, "a", "2")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		require.Len(t, readAll(t, st, shardID(0)), 2, "longer")
		require.NoError(t, st.SetRetention(t.Context(), 30*time.Hour, 0))
		synctest.Wait()
		require.Len(t, readAll(t, st, shardID(0)), 1, "shorter, at once")
		require.NoError(t, st.SetRetention(t.Context(), Forever, 0))
		time.Sleep(MaxRetention)
		synctest.Wait()
		require.Len(t, readAll(t, st, shardID(0)), 1, "forever")
		info := st.Info()
		require.Equal(t, Forever, info.Retention)
		require.Zero(t, info.RetentionBytes)
		require.NoError(t, st.SetRetention(t.Context(), time.Second, 0))
		synctest.Wait()
		require.Empty(t, readAll(t, st, shardID(0)))
	})
}

func TestClosedShardsAreListedUntilRetentionHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Shards: 2})
		put(t, st, "a", "x")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.NoError(t, st.Reshard(t.Context(), 1)) // closes one with a record and one without
		time.Sleep(22 * time.Hour)
		synctest.Wait()
		require.Len(t, shards(t, st), 3)
		time.Sleep(time.Hour + 2*time.Second) // the record is gone, and its shard was closed 23 h ago
		synctest.Wait()
		require.Empty(t, readStream(t, st))
		require.Len(t, shards(t, st), 3)
		time.Sleep(time.Hour)
		left := shards(t, st)
		require.Len(t, left, 1)
		require.Equal(t, []string{shardID(0), shardID(1)}, left[0].Parents)
		for i := range 2 {
			_, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardID(i)})
			require.ErrorIs(t, err, shardlog.ErrNotFound)
		}
		put(t, st, "a", "y")
		require.Len(t, readStream(t, st), 1)
	})
}

func TestClosedShardsStayForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Retention: Forever})
		require.NoError(t, st.Reshard(t.Context(), 3))
		time.Sleep(2 * MaxRetention)
		synctest.Wait()
		require.Len(t, shards(t, st), 4)
	})
}

func TestClosedShardsAreNotListedForeverWhereBytesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Retention: Forever, RetentionBytes: MinRetentionBytes, Shards: 2})
		put(t, st, "a", "x")
		require.NoError(t, st.Reshard(t.Context(), 1)) // closes one with a record and one without
		time.Sleep(DefaultRetention - time.Minute)
		synctest.Wait()
		require.Len(t, shards(t, st), 3)
		time.Sleep(MaxRetention)
		synctest.Wait()
		require.Len(t, shards(t, st), 2, "one of the closed ones has a record")
		require.Len(t, readStream(t, st), 1)
		for range 10 {
			_, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "a", Data: make([]byte, MinRetentionBytes/4)})
			require.NoError(t, err)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Len(t, shards(t, st), 1)
	})
}

func TestTrimmedPositionIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Retention: time.Hour})
		first := put(t, st, "a", "1")
		put(t, st, "a", "2")
		time.Sleep(2 * time.Hour)
		third := put(t, st, "a", "3")
		for _, from := range []shardlog.Position{shardlog.At(first.Sequence), shardlog.After(first.Sequence), shardlog.AfterSub(first.Sequence, 3)} {
			_, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardID(0), From: from})
			requireTrimmed(t, err, from, third.Sequence)
			for _, err := range st.Records(t.Context(), shardID(0), from) {
				requireTrimmed(t, err, from, third.Sequence)
			}
			for _, err := range st.Tail(t.Context(), shardID(0), from) {
				requireTrimmed(t, err, from, third.Sequence)
			}
		}
		for _, from := range []shardlog.Position{shardlog.TrimHorizon(), shardlog.AtTime(time.Now().Add(-48 * time.Hour))} {
			p, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardID(0), From: from})
			require.NoError(t, err)
			require.Len(t, p.Records, 1)
		}
	})
}

func requireTrimmed(t *testing.T, err error, from shardlog.Position, next shardlog.SequenceNumber) {
	t.Helper()
	require.ErrorIs(t, err, shardlog.ErrExpired)
	var trimmed *shardlog.TrimmedError
	require.ErrorAs(t, err, &trimmed)
	require.Equal(t, from, trimmed.From)
	require.Equal(t, counterOf(next), counterOf(trimmed.Oldest.Sequence()))
	require.LessOrEqual(t, trimmed.Missed, uint64(2))
	require.Positive(t, trimmed.Missed)
}

// A reader that retention has overtaken gets that error even if nothing is left,
// and neither ends as if it had read everything nor spins.
func TestIteratorsTellThatRetentionTookTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Retention: time.Hour})
		for name, iterate := range map[string]func(context.Context, string, shardlog.Position) func(func(shardlog.Record, error) bool){
			"records": func(ctx context.Context, id string, from shardlog.Position) func(func(shardlog.Record, error) bool) {
				return st.Records(ctx, id, from)
			},
			"scan": func(ctx context.Context, id string, from shardlog.Position) func(func(shardlog.Record, error) bool) {
				return copied(st.Scan(ctx, id, from))
			},
			"scan tail": func(ctx context.Context, id string, from shardlog.Position) func(func(shardlog.Record, error) bool) {
				return copied(st.ScanTail(ctx, id, from))
			},
			"tail": func(ctx context.Context, id string, from shardlog.Position) func(func(shardlog.Record, error) bool) {
				return st.Tail(ctx, id, from)
			},
		} {
			for i := range 5 {
				// Each is a block of its own, because a reader has what it began
				// to read.
				put(t, st, "a", fmt.Sprint(i)+strings.Repeat("x", 10<<10))
			}
			n := 0
			var end error
			for _, err := range iterate(t.Context(), shardID(0), shardlog.TrimHorizon()) {
				if n++; err != nil {
					end = err
					break
				}
				time.Sleep(2 * time.Hour)
			}
			require.ErrorIs(t, end, shardlog.ErrExpired, name)
			require.Equal(t, 2, n, name)
			require.Empty(t, readAll(t, st, shardID(0)))
		}
	})
}

func TestRetentionBytesBoundsEachStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		small := create(t, db, "small", Config{Shards: 3, RetentionBytes: 256 << 10})
		mixed := create(t, db, "mixed", Config{Shards: 2, Retention: time.Hour, RetentionBytes: 1 << 20})
		other := create(t, db, "other", Config{Shards: 2})
		n := 0
		for round := range 40 {
			for _, st := range []*Stream{small, mixed, other} {
				recs := make([]shardlog.Record, 30)
				for i := range recs {
					n++
					recs[i] = shardlog.Record{PartitionKey: fmt.Sprint(n), Data: make([]byte, 1000)}
				}
				_, err := st.PutRecords(t.Context(), recs)
				require.NoError(t, err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			require.LessOrEqual(t, small.Stats().Bytes, int64(256<<10))
			require.LessOrEqual(t, mixed.Stats().Bytes, int64(1<<20))
			require.Len(t, readStream(t, other), 30*(round+1))
		}
		require.Greater(t, small.Stats().Bytes, int64(128<<10))
		require.Greater(t, mixed.Stats().Bytes, int64(512<<10))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Zero(t, mixed.Stats().Bytes, "the age holds beside the bytes")
		require.NotZero(t, small.Stats().Bytes)
	})
}

func TestRetentionWhileTailReadersRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{RetentionBytes: 256 << 10})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		counts := make([]int, 4)
		for i := range counts {
			wg.Go(func() {
				last := -1
				for r, err := range st.Tail(ctx, shardID(0), shardlog.TrimHorizon()) {
					if err != nil {
						require.ErrorIs(t, err, context.Canceled)
						return
					}
					n := 0
					_, err := fmt.Sscan(r.PartitionKey, &n)
					require.NoError(t, err)
					require.Equal(t, last+1, n)
					last = n
					counts[i]++
				}
			})
		}
		const total = 3000
		for i := range total {
			_, err := st.Put(t.Context(), shardlog.Record{PartitionKey: fmt.Sprint(i), Data: make([]byte, 1000)})
			require.NoError(t, err)
			time.Sleep(time.Millisecond) // the readers keep up
		}
		synctest.Wait()
		require.LessOrEqual(t, st.Stats().Bytes, int64(256<<10))
		cancel()
		wg.Wait()
		for _, n := range counts {
			require.Equal(t, total, n)
		}
	})
}

// A reader at the end of a parent finds out there where to continue. So the
// parent may not be listed longer than its children, whatever their ends and
// the arrivals of the parent's records: here all of them are in one
// millisecond.
func TestAParentIsNotListedLongerThanItsChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := create(t, openMem(t), "s", Config{Retention: time.Hour})
		put(t, st, "a", "x")
		children, err := st.Split(t.Context(), shardID(0), shardlog.HashKey{})
		require.NoError(t, err)
		for _, c := range children {
			_, err := st.Split(t.Context(), c, shardlog.HashKey{})
			require.NoError(t, err)
		}
		for range 3 {
			if infos := shards(t, st); infos[0].ID == shardID(0) {
				p, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardID(0)})
				require.NoError(t, err)
				require.True(t, p.End)
				require.Equal(t, children, p.Children, "after %v", time.Since(infos[0].Created))
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		}
		require.Len(t, shards(t, st), 4, "the open ones")
	})
}
