package stream

import (
	"bytes"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

const year = 365 * 24 * time.Hour

// clockAt runs f with a clock that stands at a time after the beginning of 2000.
func clockAt(t *testing.T, after time.Duration, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(after)
		f(t)
	})
}

// clocked opens the database of a clock test, which closes with f. It is in memory:
// what Badger does by the clock in hours takes minutes.
func clocked(t *testing.T, store kv.Store, cfg Config, logger *slog.Logger, f func(st *Stream)) {
	t.Helper()
	o, err := (&Options{Logger: logger}).withDefaults("dir")
	require.NoError(t, err)
	db, err := openOn(store, o)
	require.NoError(t, err)
	st, err := db.Ensure(t.Context(), "s", cfg)
	require.NoError(t, err)
	f(st)
	require.NoError(t, db.Close())
}

// A clock that was years ahead does not keep retention from working once it is
// right again, and that it was ahead is logged.
func TestRetentionWorksAfterTheClockWasAhead(t *testing.T) {
	store := newSurviving()
	cfg := Config{Retention: 2 * time.Second}
	clockAt(t, 40*year, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) { put(t, st, "k", "ahead") })
	})
	var said bytes.Buffer
	clockAt(t, year, func(t *testing.T) {
		clocked(t, store, cfg, slog.New(slog.NewTextHandler(&said, nil)), func(st *Stream) {
			for i := range 1000 {
				put(t, st, "k", strconv.Itoa(i))
			}
			before := readAll(t, st, damageShard)
			require.Len(t, before, 1001)
			for i := 1; i < len(before); i++ {
				require.Positive(t, before[i].Sequence.Compare(before[i-1].Sequence), "the order has changed")
			}
			now := time.Now()
			require.WithinDuration(t, now, before[1000].Arrival, time.Second)
			time.Sleep(6 * time.Second)
			synctest.Wait()
			require.Empty(t, readAll(t, st, damageShard))
			put(t, st, "k", "last")
		})
	})
	require.Contains(t, said.String(), "clock")
	clockAt(t, year+time.Hour, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) {
			time.Sleep(6 * time.Second)
			synctest.Wait()
			require.Empty(t, readAll(t, st, damageShard), "opened again")
		})
	})
}

// A clock that was years behind, as one with an empty battery is, does not make
// young records old.
func TestRetentionWaitsAfterTheClockWasBehind(t *testing.T) {
	store := newSurviving()
	cfg := Config{Retention: 24 * time.Hour}
	clockAt(t, 26*year, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) { put(t, st, "k", "right") })
	})
	clockAt(t, 0, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) {
			put(t, st, "k", "behind")
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Len(t, readAll(t, st, damageShard), 2)
		})
	})
	clockAt(t, 26*year+2*time.Hour, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) {
			put(t, st, "k", "right again")
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Len(t, readAll(t, st, damageShard), 3)
			time.Sleep(30 * time.Hour)
			synctest.Wait()
			require.Empty(t, readAll(t, st, damageShard))
		})
	})
}

// The IDs of a dedup window end with it although the first of them came while
// the clock was ahead.
func TestDedupWindowAfterTheClockWasAhead(t *testing.T) {
	store := newSurviving()
	cfg := Config{DedupWindow: time.Minute}
	clockAt(t, 40*year, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) {
			_, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k", DedupID: "a"})
			require.NoError(t, err)
		})
	})
	clockAt(t, year, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) {
			for _, id := range []string{"b", "b", "c"} {
				_, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k", DedupID: id})
				require.NoError(t, err)
			}
			require.Len(t, readAll(t, st, damageShard), 3, "b was stored twice")
			time.Sleep(3 * time.Hour) // the janitor looks once an hour
			synctest.Wait()
			require.Zero(t, st.dedup.Info().Remembered)
			for _, id := range []string{"a", "b"} {
				_, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k", DedupID: id})
				require.NoError(t, err)
			}
			require.Len(t, readAll(t, st, damageShard), 5)
		})
	})
}

// An identity that was last used, and a shard that was closed, while the clock
// was ahead are forgotten as others are once it is right again.
func TestIdentitiesAndClosedShardsAfterTheClockWasAhead(t *testing.T) {
	store := newSurviving()
	cfg := Config{Retention: 2 * time.Second}
	clockAt(t, 40*year, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) {
			put(t, st, "k", "ahead")
			_, err := st.OpenProducer(t.Context(), "p")
			require.NoError(t, err)
			_, err = st.Split(t.Context(), damageShard, shardlog.HashKey{})
			require.NoError(t, err)
		})
	})
	clockAt(t, year, func(t *testing.T) {
		clocked(t, store, cfg, nil, func(st *Stream) {
			require.Equal(t, 1, st.Stats().Producers)
			require.GreaterOrEqual(t, st.Stats().Shards[0].OldestAge, time.Duration(0))
			put(t, st, "k", "right")
			time.Sleep(10 * time.Second)
			synctest.Wait()
			require.Len(t, st.Stats().Shards, 2, "the parent is still listed")
			time.Sleep(8 * 24 * time.Hour)
			synctest.Wait()
			require.Zero(t, st.Stats().Producers)
		})
	})
}
