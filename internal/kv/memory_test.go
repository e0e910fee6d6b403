package kv_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func TestMemoryConforms(t *testing.T) {
	kvtest.Run(t, func(testing.TB) kv.Store { return kv.NewMemory() }, nil)
}

func TestBatchCountsWhatItHolds(t *testing.T) {
	small, large := make([]byte, kv.InlineValue), make([]byte, kv.InlineValue+1)
	var b kv.Batch
	b.Set([]byte("ab"), small)
	b.Set([]byte("cd"), large)
	bytes, inline := b.Bytes, b.Inline
	require.Equal(t, 2*kv.InlineValue+5, bytes)
	require.Equal(t, kv.InlineValue+4, inline, "a large value is not in the tree")
	b.Delete([]byte("ab"))
	b.Set([]byte("ef"), small)
	b.Set([]byte("cd"), large)
	b.Truncate(2)
	require.Equal(t, bytes, b.Bytes)
	require.Equal(t, inline, b.Inline)
	require.Len(t, b.Ops, 2)
	b.Small = true
	b.Reset()
	require.Equal(t, kv.Batch{Ops: []kv.Op{}}, b)
}

func TestBatchLookupFindsTheLaterChange(t *testing.T) {
	var b kv.Batch
	_, _, found := b.Lookup([]byte("a"))
	require.False(t, found)
	b.Set([]byte("a"), []byte("1"))
	b.Delete([]byte("a"))
	_, deleted, found := b.Lookup([]byte("a"))
	require.True(t, found && deleted)
	b.Set([]byte("a"), []byte("2"))
	v, deleted, found := b.Lookup([]byte("a"))
	require.True(t, found && !deleted)
	require.Equal(t, "2", string(v))
}
