package block

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// randomRecords returns records of all kinds and the arrivals of each.
func randomRecords(rnd *rand.Rand, n int) (rs []shardlog.Record, ms []int64) {
	at := int64(1_700_000_000_000)
	for range n {
		if rnd.IntN(3) == 0 {
			at += int64(rnd.IntN(1000))
		}
		r := shardlog.Record{PartitionKey: strings.Repeat("κ", 1+rnd.IntN(256)), Data: make([]byte, rnd.IntN(1<<rnd.IntN(12)))}
		for i := range r.Data {
			r.Data[i] = byte(rnd.Uint32() >> rnd.IntN(8))
		}
		switch rnd.IntN(4) {
		case 0:
			r.ExplicitHashKey = shardlog.NewHashKey(0, 0)
		case 1:
			r.ExplicitHashKey = shardlog.MaxHashKey
		}
		for range rnd.IntN(4) {
			r.Headers = append(r.Headers, shardlog.Header{Key: fmt.Sprint(rnd.IntN(9)), Value: strings.Repeat("v", rnd.IntN(300))})
		}
		rs, ms = append(rs, r), append(ms, at)
	}
	return rs, ms
}

func build(first, prev uint64, rs []shardlog.Record, ms []int64) Block {
	var b Builder
	b.Init(first, 64)
	for i := range rs {
		b.Append(&rs[i], ms[i])
	}
	return b.Finish(prev)
}

// requireRecords reads a block from an iterator on and compares.
func requireRecords(t *testing.T, it Iter, first uint64, rs []shardlog.Record, ms []int64) {
	t.Helper()
	var item Item
	for i := range rs {
		ok, err := it.Next(&item)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, first+uint64(i), item.Counter)
		require.Equal(t, ms[i], item.Ms)
		var got shardlog.Record
		require.NoError(t, item.Record(&got, new(Headers)))
		require.Equal(t, rs[i].PartitionKey, got.PartitionKey)
		require.Equal(t, rs[i].ExplicitHashKey, got.ExplicitHashKey)
		require.Equal(t, rs[i].Headers, got.Headers)
		require.Equal(t, string(rs[i].Data), string(got.Data))
	}
	ok, err := it.Next(&item)
	require.NoError(t, err)
	require.False(t, ok)
}

func TestRoundTripAndSeek(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, codec := range []Codec{None, S2, Zstd} {
		for _, n := range []int{1, 2, 37, 400} {
			rs, ms := randomRecords(rnd, n)
			blk := build(100, 42, rs, ms)
			got, err := Decode(append([]byte(nil), blk.Encoded(codec)...))
			require.NoError(t, err)
			require.Equal(t, blk.Header, got.Header)
			require.EqualValues(t, 42, got.Prev)
			for i := range n {
				it, err := got.Seek(100 + uint64(i))
				require.NoError(t, err)
				if i%17 == 0 || i == n-1 {
					requireRecords(t, it, 100+uint64(i), rs[i:], ms[i:])
				}
				at, err := got.SeekTime(ms[i])
				require.NoError(t, err)
				want := i
				for want > 0 && ms[want-1] == ms[i] {
					want--
				}
				require.Equal(t, 100+uint64(want), at.Counter())
			}
			it, err := got.SeekTime(ms[n-1] + 1)
			require.NoError(t, err)
			require.True(t, it.Done())
		}
	}
}

func TestMergedBlocksEqualOneBuiltAtOnce(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	rs, ms := randomRecords(rnd, 300)
	var parts []*Block
	for from := 0; from < len(rs); {
		to := min(len(rs), from+1+rnd.IntN(40))
		part := build(5+uint64(from), 4, rs[from:to], ms[from:to])
		parts = append(parts, &part)
		from = to
	}
	blk := Merge(parts...)
	got, err := Decode(blk.Encoded(None))
	require.NoError(t, err)
	for i := 0; i < len(rs); i += 13 {
		it, err := got.Seek(5 + uint64(i))
		require.NoError(t, err)
		requireRecords(t, it, 5+uint64(i), rs[i:], ms[i:])
	}
}

func TestOwnedBytesArePrivate(t *testing.T) {
	blk := build(1, 0, []shardlog.Record{{PartitionKey: "k", Data: []byte("abc")}}, []int64{1})
	it, err := blk.Seek(1)
	require.NoError(t, err)
	end, err := blk.Seek(blk.End())
	require.NoError(t, err)
	own := it
	own.Own(end)
	var item Item
	_, err = own.Next(&item)
	require.NoError(t, err)
	item.Data[0] = 'X'
	item.Data = append(item.Data, "overflow"...)
	requireRecords(t, it, 1, []shardlog.Record{{PartitionKey: "k", Data: []byte("abc")}}, []int64{1})
}

func TestEveryFlippedBitAndEveryCutIsFound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	rs, ms := randomRecords(rnd, 4)
	for i := range rs {
		rs[i].Data = rs[i].Data[:min(len(rs[i].Data), 20)]
	}
	for _, codec := range []Codec{None, S2, Zstd} {
		blk := build(100, 42, rs, ms)
		value := blk.Encoded(codec)
		for n := range value {
			_, err := Decode(value[:n:n])
			var d *DamageError
			require.ErrorAs(t, err, &d, "cut to %d bytes", n)
		}
		for i := range value {
			for bit := range 8 {
				bad := append([]byte(nil), value...)
				bad[i] ^= 1 << bit
				_, err := Decode(bad)
				var d *DamageError
				require.ErrorAs(t, err, &d, "bit %d of byte %d", bit, i)
			}
		}
	}
}

func TestIncompressibleIsStoredAsItIs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	data := make([]byte, 10_000)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	blk := build(1, 0, []shardlog.Record{{PartitionKey: "k", Data: data}}, []int64{1})
	for _, codec := range []Codec{S2, Zstd} {
		require.Equal(t, blk.Encoded(None), blk.Encoded(codec))
	}
	text := build(1, 0, []shardlog.Record{{PartitionKey: "k", Data: []byte(strings.Repeat("hello ", 1000))}}, []int64{1})
	for _, codec := range []Codec{S2, Zstd} {
		require.Less(t, len(text.Encoded(codec)), len(text.Encoded(None))/4)
	}
}
