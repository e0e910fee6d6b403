package stream

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func TestAttributesLastAsLongAsTheirStream(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	db, err := Open(dir, nil)
	require.NoError(t, err)
	given := map[string]string{"a": "1", "b": "2"}
	st, err := db.Create(ctx, "s", Config{Attributes: given})
	require.NoError(t, err)
	given["a"] = "changed by the caller"
	require.Equal(t, "1", st.Attribute("a"))
	require.NoError(t, st.SetAttributes(ctx, map[string]string{"b": "", "c": "3"}))
	st.Attributes()["c"] = "changed by the caller"
	require.Equal(t, map[string]string{"a": "1", "c": "3"}, st.Attributes())
	v, err := db.Attribute(ctx, "key")
	require.NoError(t, err)
	require.Empty(t, v)
	require.NoError(t, db.SetAttribute(ctx, "key", "old"))
	require.NoError(t, db.SetAttribute(ctx, "key", "value"))
	require.NoError(t, st.SetMaxRecordSize(ctx, 100))
	require.NoError(t, db.Close())
	require.ErrorIs(t, db.SetAttribute(ctx, "key", "value"), shardlog.ErrClosed)

	db, err = Open(dir, nil)
	require.NoError(t, err)
	defer db.Close()
	v, err = db.Attribute(ctx, "key")
	require.NoError(t, err)
	require.Equal(t, "value", v)
	st, err = db.Stream(ctx, "s")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "1", "c": "3"}, st.Attributes())
	require.Equal(t, 100, st.Info().MaxRecordSize)
	_, err = st.Put(ctx, shardlog.Record{PartitionKey: "k", Data: make([]byte, 100)})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	require.NoError(t, db.Delete(ctx, "s"))
	require.ErrorIs(t, st.SetAttributes(ctx, map[string]string{"a": "2"}), shardlog.ErrNotFound)
	st, err = db.Create(ctx, "s", Config{})
	require.NoError(t, err)
	require.Empty(t, st.Attribute("a"))
}

func TestAttributesAreBounded(t *testing.T) {
	db, err := Open("", &Options{InMemory: true})
	require.NoError(t, err)
	defer db.Close()
	ctx := t.Context()
	st, err := db.Create(ctx, "s", Config{})
	require.NoError(t, err)
	many := map[string]string{}
	for i := range MaxAttributes + 1 {
		many[strings.Repeat("x", i+1)] = "v"
	}
	for what, attrs := range map[string]map[string]string{
		"no name":       {"": "v"},
		"long name":     {strings.Repeat("x", MaxAttributeName+1): "v"},
		"long value":    {"n": strings.Repeat("x", MaxAttributeBytes+1)},
		"invalid value": {"n": "\xff"},
		"too many":      many,
	} {
		require.ErrorIs(t, st.SetAttributes(ctx, attrs), shardlog.ErrInvalid, what)
		_, err := db.Create(ctx, "other", Config{Attributes: attrs})
		require.ErrorIs(t, err, shardlog.ErrInvalid, what)
	}
	require.Empty(t, st.Attributes())
	require.ErrorIs(t, db.SetAttribute(ctx, "", "v"), shardlog.ErrInvalid)
	for _, n := range []int{0, -1, shardlog.MaxRecordSize + 1} {
		require.ErrorIs(t, st.SetMaxRecordSize(ctx, n), shardlog.ErrInvalid)
	}
}

func TestDedicatedReadsAndResolvedPositions(t *testing.T) {
	db, err := Open("", &Options{InMemory: true})
	require.NoError(t, err)
	defer db.Close()
	ctx := t.Context()
	st, err := db.Create(ctx, "s", Config{Limits: Limits{ReadCalls: 1}})
	require.NoError(t, err)
	shards, err := st.Shards(ctx)
	require.NoError(t, err)
	id := shards[0].ID
	latest, err := st.Resolve(ctx, id, shardlog.Latest())
	require.NoError(t, err)
	require.Equal(t, shardlog.KindAt, latest.Kind())
	put, err := st.Put(ctx, shardlog.Record{PartitionKey: "k", Data: []byte("d")})
	require.NoError(t, err)
	for _, from := range []shardlog.Position{shardlog.TrimHorizon(), shardlog.AtTime(time.Unix(0, 0)), latest} {
		p, err := st.Resolve(ctx, id, from)
		require.NoError(t, err)
		require.Equal(t, shardlog.At(put.Sequence), p)
		for range 3 { // more than the limit
			page, err := st.ReadDedicated(ctx, shardlog.ReadRequest{ShardID: id, From: from})
			require.NoError(t, err)
			require.Len(t, page.Records, 1)
		}
	}
	_, err = st.Read(ctx, shardlog.ReadRequest{ShardID: id})
	require.NoError(t, err, "dedicated reads take nothing from the limit of the others")
	children, err := st.Split(ctx, id, shardlog.HashKey{})
	require.NoError(t, err)
	page, err := st.ReadDedicated(ctx, shardlog.ReadRequest{ShardID: id, From: shardlog.Latest()})
	require.NoError(t, err)
	require.True(t, page.End)
	require.Equal(t, children, page.Children)
	_, err = st.ReadDedicated(ctx, shardlog.ReadRequest{ShardID: "shardId-000000000009"})
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	_, err = st.ReadDedicated(ctx, shardlog.ReadRequest{ShardID: id, MaxRecords: -1})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
}
