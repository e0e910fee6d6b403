package kvtest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

func TestMemoryConforms(t *testing.T) {
	Run(t, func(testing.TB) kv.Store { return kv.NewMemory() }, nil)
}

// The journal of a Faulty is one, too.
func TestFaultyHasAJournal(t *testing.T) {
	for _, synced := range []bool{false, true} {
		for _, limit := range []int64{0, 2 << 20} {
			t.Run(fmt.Sprintf("synced %t limit %d", synced, limit), func(t *testing.T) {
				runJournal(t, func(testing.TB) kv.Store {
					f := New(kv.NewMemory())
					f.SyncsCommits(synced)
					f.LimitJournal(limit)
					return f
				}, func(_ testing.TB, s kv.Store) kv.Store {
					s.(*Faulty).Revive()
					return s
				})
			})
		}
	}
}

// Without a fault, Faulty is a store like any other, but for Close.
func TestFaultyIsTransparent(t *testing.T) {
	s := New(kv.NewMemory())
	for _, f := range []func(*testing.T, kv.Store){testValues, testKeys, testScan, testGetMany, testConcurrency} {
		s = New(kv.NewMemory())
		f(t, s)
		require.NoError(t, s.CheckValues())
	}
	require.NoError(t, s.Close())
	_, err := s.Get([]byte("k00"))
	require.NoError(t, err, "contents outlive Close")
}

func TestFaults(t *testing.T) {
	one := func(k string) *kv.Batch {
		b := &kv.Batch{}
		b.Set([]byte(k), []byte("1"))
		return b
	}
	s := New(kv.NewMemory())
	s.FailAt(2, Commit, Refuse, nil)
	require.NoError(t, s.Commit(one("a")))
	require.False(t, s.Hit())
	require.ErrorIs(t, s.Commit(one("b")), ErrInjected)
	require.True(t, s.Hit())
	require.NoError(t, s.Commit(one("c")))
	require.Equal(t, []string{"a", "c"}, scan(t, s, ""))

	s.FailAt(1, Commit, Torn, nil)
	require.ErrorIs(t, s.Commit(one("d")), shardlog.ErrStorage)
	require.ErrorIs(t, s.Commit(one("e")), shardlog.ErrStorage, "dead")
	require.ErrorIs(t, s.Sync(), shardlog.ErrStorage)
	s.Revive()
	require.Equal(t, []string{"a", "c"}, scan(t, s, ""))

	s.FailAt(1, Commit, TornApplied, nil)
	require.ErrorIs(t, s.Commit(one("f")), shardlog.ErrStorage)
	s.Revive()
	require.Equal(t, []string{"a", "c", "f"}, scan(t, s, ""))

	s.FailAt(1, Get|Scan, Refuse, shardlog.ErrCorrupt)
	_, err := s.Get([]byte("a"))
	require.ErrorIs(t, err, shardlog.ErrCorrupt)

	s.Drop(func(k []byte) bool { return string(k) == "c" })
	s.Damage(func(_, v []byte) []byte { v[0]++; return v })
	require.Equal(t, []string{"a", "f"}, scan(t, s, ""))
	require.Equal(t, "2", get(t, s, "a"))
	s.Revive()
	require.Equal(t, "1", get(t, s, "a"))

	v := []byte("value")
	b := &kv.Batch{}
	b.Set([]byte("v"), v)
	require.NoError(t, s.Commit(b))
	require.NoError(t, s.CheckValues())
	v[0] = 'x'
	require.Error(t, s.CheckValues())
}
