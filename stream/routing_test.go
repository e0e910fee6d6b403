package stream

import (
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func bigKey(k shardlog.HashKey) *big.Int {
	n, _ := new(big.Int).SetString(k.String(), 10)
	return n
}

// AWS gives each of n shards floor(2^128/n) hash keys, and the last one what is
// left over.
func TestShardRangesAreThoseOfAWS(t *testing.T) {
	all := new(big.Int).Lsh(big.NewInt(1), 128)
	for _, n := range []int{1, 2, 3, 4, 5, 7, 10_000} {
		size := new(big.Int).Div(all, big.NewInt(int64(n)))
		starts := evenRanges(n)
		require.Len(t, starts, n)
		for i, s := range starts {
			require.Equal(t, new(big.Int).Mul(size, big.NewInt(int64(i))).String(), s.String(), "%d of %d", i, n)
		}
	}
	st := create(t, openMem(t), "s", Config{Shards: 3})
	infos := shards(t, st)
	requireCovered(t, infos)
	// As aws kinesis describe-stream shows them for three shards.
	require.Equal(t, "113427455640312821154458202477256070484", infos[0].HashEnd.String())
	require.Equal(t, "226854911280625642308916404954512140969", infos[1].HashEnd.String())
	require.Equal(t, "340282366920938463463374607431768211455", infos[2].HashEnd.String())
}

func TestMiddleOfARange(t *testing.T) {
	r, _ := newRand(t)
	check := func(start, end shardlog.HashKey) {
		m := middle(start, end)
		require.Positive(t, m.Compare(start))
		require.LessOrEqual(t, m.Compare(end), 0)
		lower := new(big.Int).Sub(bigKey(m), bigKey(start))
		upper := new(big.Int).Sub(bigKey(end), bigKey(m))
		diff := lower.Sub(lower, upper)
		require.True(t, diff.IsInt64() && diff.Int64() >= 0 && diff.Int64() <= 2, "%v..%v at %v", start, end, m)
	}
	check(shardlog.NewHashKey(0, 0), shardlog.MaxHashKey)
	check(shardlog.NewHashKey(0, 0), shardlog.NewHashKey(0, 1))
	for range 1000 {
		a, b := shardlog.NewHashKey(r.Uint64(), r.Uint64()), shardlog.NewHashKey(r.Uint64()>>r.Intn(64), r.Uint64())
		if a.Compare(b) > 0 {
			a, b = b, a
		}
		if a != b {
			check(a, b)
		}
		if next, ok := a.Next(); ok {
			check(a, next)
		}
	}
}

// The MD5 of the keys as other clients know it.
func TestPartitionKeysLandWhereAWSPutsThem(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 4})
	infos := shards(t, st)
	for key, hash := range map[string]string{
		"a":      "16955237001963240173058271559858726497",
		"alice":  "132283552702735894323332391932430538300",
		"bob":    "212164099741615454138234394844395612632",
		"κλειδί": "96969301573944448165773857723892846045",
	} {
		want, err := shardlog.ParseHashKey(hash)
		require.NoError(t, err)
		i := slices.IndexFunc(infos, func(s shardlog.ShardInfo) bool {
			return s.HashStart.Compare(want) <= 0 && want.Compare(s.HashEnd) <= 0
		})
		for range 2 { // the second time the hash is remembered
			require.Equal(t, infos[i].ID, put(t, st, key, "x").ShardID, key)
		}
	}
}

func TestExplicitHashKeysChooseTheShard(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 5})
	infos := shards(t, st)
	for _, s := range infos {
		for _, k := range []shardlog.HashKey{s.HashStart, s.HashEnd} {
			res, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "same", ExplicitHashKey: k})
			require.NoError(t, err)
			require.Equal(t, s.ID, res.ShardID)
		}
		got := readAll(t, st, s.ID)
		require.Len(t, got, 2)
		require.Equal(t, s.HashStart, got[0].ExplicitHashKey)
		require.Equal(t, s.HashEnd, got[1].ExplicitHashKey)
	}
	require.Equal(t, "0", infos[0].HashStart.String())
	require.Equal(t, shardlog.MaxHashKey, infos[4].HashEnd)
}

func TestXXHashRoutesOtherwiseAndStaysSoAfterReopening(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(dir, smallOptions())
	require.NoError(t, err)
	md5 := create(t, db, "md5", Config{Shards: 8})
	xx := create(t, db, "xx", Config{Shards: 8, Hash: XXHash})
	differ := 0
	where, spread := map[string]string{}, map[string]bool{}
	for i := range 200 {
		k := fmt.Sprint("key", i)
		where[k] = put(t, xx, k, "").ShardID
		spread[where[k]] = true
		if put(t, md5, k, "").ShardID != where[k] {
			differ++
		}
	}
	require.Greater(t, differ, 100)
	require.Len(t, spread, 8)
	require.NoError(t, db.Close())
	db = openDB(t, dir, smallOptions())
	xx, err = db.Stream(t.Context(), "xx")
	require.NoError(t, err)
	require.Equal(t, XXHash, xx.Info().Hash)
	for k, id := range where {
		require.Equal(t, id, put(t, xx, k, "").ShardID)
	}
}

// The numbers of shards that UpdateShardCount leaves on AWS, with the closed
// ones that still can be read.
func TestReshardMakesAsManyShardsAsAWS(t *testing.T) {
	for _, c := range []struct{ from, to, listed int }{{2, 4, 6}, {4, 5, 15}, {4, 2, 6}, {1, 2, 3}, {3, 3, 3}, {2, 1, 3}, {1, 50, 51}} {
		t.Run(fmt.Sprintf("%d to %d", c.from, c.to), func(t *testing.T) {
			st := create(t, openMem(t), "s", Config{Shards: c.from})
			require.NoError(t, st.Reshard(t.Context(), c.to))
			infos := shards(t, st)
			requireCovered(t, infos)
			require.Len(t, infos, c.listed)
			info := st.Info()
			require.Equal(t, c.to, info.OpenShards)
			require.Equal(t, c.listed, info.Shards)
			open := openShards(t, st)
			slices.SortFunc(open, func(a, b shardlog.ShardInfo) int { return a.HashStart.Compare(b.HashStart) })
			for i, start := range evenRanges(c.to) {
				require.Equal(t, start, open[i].HashStart)
			}
		})
	}
}

func TestShardInfoOfClosedShards(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 2})
	key := shards(t, st)[0].HashStart
	var last shardlog.PutResult
	for range 3 {
		var err error
		last, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "a", ExplicitHashKey: key})
		require.NoError(t, err)
	}
	id, err := st.Merge(t.Context(), shardID(0), shardID(1))
	require.NoError(t, err)
	infos := shards(t, st)
	require.Equal(t, last.Sequence, infos[0].Last)
	require.Equal(t, counterOf(infos[1].First)+1, counterOf(infos[1].Last), "of a shard without records: just above First")
	require.Equal(t, []string{infos[0].ID, infos[1].ID}, infos[2].Parents)
	require.Equal(t, id, infos[2].ID)
	require.False(t, infos[2].Closed)
	require.True(t, !infos[2].Last.IsSet())
}
