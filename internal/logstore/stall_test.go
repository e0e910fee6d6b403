package logstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// A writer who outruns retention is stalled until the owner has caught up,
// but not for ever; nobody else is.
func TestWritersWaitForAnOwnerThatLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := make(chan struct{}, 1)
		usage := &Usage{}
		usage.Limit.Store(1 << 20)
		cs := configs(1)
		cs[0].Usage = usage
		l, err := Open(kvtest.New(kv.NewMemory()), Options{Wake: func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		}}, cs, Recovery{})
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		s := l.Shard(cs[0].ID)
		put := func(ctx context.Context) (time.Duration, error) {
			start := time.Now()
			_, err := l.AppendOne(ctx, s, &shardlog.Record{PartitionKey: "k", Data: make([]byte, 1<<20)})
			return time.Since(start), err
		}
		for usage.Bytes.Load() <= (1<<20)+stallOver {
			took, err := put(t.Context())
			require.NoError(t, err)
			require.Zero(t, took, "within what the owner's way of working explains")
		}
		require.True(t, l.Stalled())
		<-woken

		took, err := put(t.Context())
		require.NoError(t, err)
		require.Equal(t, maxStall, took, "the owner does nothing")

		go func() {
			time.Sleep(time.Millisecond)
			l.CaughtUp()
		}()
		took, err = put(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Millisecond, took)

		require.True(t, l.Stalled(), "it is still over the limit")
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		took, err = put(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Millisecond, took)

		start := time.Now()
		require.NoError(t, l.Do(t.Context(), func(tx *Tx) error { tx.Set([]byte("x"), nil); return nil }))
		require.NoError(t, s.Trim(t.Context(), s.LastCounter()+1))
		require.Zero(t, time.Since(start), "what makes room is not held up")
		l.CaughtUp()
		took, err = put(t.Context())
		require.NoError(t, err)
		require.Zero(t, took)
		require.False(t, l.Stalled())
	})
}

// A log whose owner did not ask to be woken is not stalls.
func TestWithoutAnOwnerNobodyWaits(t *testing.T) {
	usage := &Usage{}
	usage.Limit.Store(1)
	cs := configs(1)
	cs[0].Usage = usage
	l, err := Open(kvtest.New(kv.NewMemory()), Options{}, cs, Recovery{})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	for range 12 {
		_, err := l.AppendOne(t.Context(), l.Shard(cs[0].ID), &shardlog.Record{PartitionKey: "k", Data: make([]byte, 1<<20)})
		require.NoError(t, err)
	}
	require.False(t, l.Stalled())
}
