package logstore

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// A slot whose value a sync has made durable is not overwritten before the
// block that has its records is durable, too.
func TestSlotsAreHeldUntilTheNextSync(t *testing.T) {
	l, ss := openOn(t, kv.NewMemory(), 1, Options{})
	s := ss[0]
	fill := func() { // until what gathered becomes a block
		for before := s.Info().BlocksWritten; s.Info().BlocksWritten == before; {
			require.NoError(t, put(l, s, numbers(0, 1, 4000)...))
		}
	}
	held := func() (free, held int) {
		// Asked in the committer, whose fields they are.
		require.NoError(t, l.Do(ctx, func(*Tx) error {
			free, held = len(l.slots.free), len(l.slots.held)
			return nil
		}))
		return free, held
	}
	fill()
	free, h := held()
	require.Positive(t, free)
	require.Zero(t, h, "a log that was never synced has promised nothing")
	require.NoError(t, l.Sync())
	fill()
	_, h = held()
	require.Positive(t, h)
	used := l.slots.next
	require.NoError(t, put(l, s, "x"))
	_, still := held()
	require.Equal(t, h, still)
	require.NoError(t, l.Sync())
	require.NoError(t, put(l, s, "y"))
	_, h = held()
	require.Zero(t, h, "the sync has made the block durable")
	require.GreaterOrEqual(t, l.slots.next, used)
}

// A log that was synced once, and then never again, or syncs each commit, does not
// need more and more slots.
func TestHeldSlotsAreBounded(t *testing.T) {
	for name, o := range map[string]Options{"never": {}, "always": {CommitsSynced: true}} {
		t.Run(name, func(t *testing.T) {
			store := kv.NewMemory()
			l, ss := openOn(t, store, 1, o)
			require.NoError(t, l.Sync())
			for i := range maxSlots {
				require.NoError(t, put(l, ss[0], numbers(i, i+1, 7000)...)) // ten become a block
			}
			n := 0
			require.NoError(t, store.Scan([]byte{prefixJournal}, func([]byte, int64) bool { n++; return true }))
			if o.CommitsSynced {
				require.LessOrEqual(t, n, 20, "a committed block is durable")
			} else {
				require.LessOrEqual(t, n, maxHeld+20)
			}
		})
	}
}

// Two trims in one transaction leave the higher horizon, whatever their order.
func TestTheStoredHorizonDoesNotGoBack(t *testing.T) {
	store := kv.NewMemory()
	l, ss := openOn(t, store, 1, Options{})
	s := ss[0]
	for range 3 {
		require.NoError(t, put(l, s, numbers(0, 4, 4000)...)) // a block each
	}
	high := &trim{s: s, upto: s.LastCounter() + 1}
	low := &trim{s: s, upto: base + 5}
	require.NoError(t, l.Do(ctx, func(tx *Tx) error {
		if err := high.apply(tx); err != nil {
			return err
		}
		return low.apply(tx)
	}))
	v, err := store.Get(horizonKey(s.ID()))
	require.NoError(t, err)
	require.Equal(t, s.LastCounter()+1, binary.BigEndian.Uint64(v))
}

func TestAppendChecksItsArguments(t *testing.T) {
	l, ss := openOn(t, kv.NewMemory(), 1, Options{})
	rs := []shardlog.Record{rec("a"), rec("b")}
	res := make([]shardlog.PutResult, 2)
	require.ErrorIs(t, l.Append(ctx, rs, ss, res), shardlog.ErrInvalid)
	require.ErrorIs(t, l.Append(ctx, rs, []*Shard{ss[0], nil}, res), shardlog.ErrInvalid)
	require.ErrorIs(t, l.Append(ctx, rs, []*Shard{ss[0], ss[0]}, res[:1]), shardlog.ErrInvalid)
	require.NoError(t, put(l, ss[0], "c"))
	require.Equal(t, []string{"c"}, contents(t, ss[0]))
}
