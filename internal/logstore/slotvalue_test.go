package logstore

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// A repaired store has the entries of its journal as values. They are read after the values
// that were there before, however high the numbers of these, and none is too large for
// a small file of the value log.
func TestEntriesAsValues(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	want := []string{"old"}
	require.NoError(t, put(l, ss[0], "old"))
	require.NoError(t, l.Close())
	set := func(key, value []byte) error {
		var b kv.Batch
		b.Set(key, value)
		return store.Commit(&b)
	}
	old := Slots{number: 7, group: 1000} // an earlier version used the slots in turn
	for _, e := range store.Entries() {
		require.NoError(t, old.Values(e, set))
	}
	store.ChangeEntries(nil)
	value, err := store.Get(slotKey(7))
	require.NoError(t, err)

	l, err = Open(store, Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	for i := range 6 {
		data := string(bytes.Repeat([]byte{byte('a' + i)}, 6<<10))
		require.NoError(t, put(l, l.Shard(ID{1, 0}), data))
		want = append(want, data)
	}
	require.NoError(t, l.Close())
	require.NoError(t, set(slotKey(7), value)) // its deletion was lost

	var slots Slots
	var entry []byte
	slots.Keep(slotKey(7), value)
	for range 20 { // longer than any that is written: the same parts again are stale
		for _, e := range store.Entries() {
			entry = append(entry, e...)
		}
	}
	values := 0
	require.NoError(t, slots.Values(entry, func(key, value []byte) error {
		values++
		require.LessOrEqual(t, len(value), keptEntry+directBytes)
		return set(key, value)
	}))
	require.Greater(t, values, 1)
	store.ChangeEntries(nil)
	again, err := Open(store, Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	require.Equal(t, want, contents(t, again.Shard(ID{1, 0})))
	require.NoError(t, again.Close())
}
