package block

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func TestRandomRecordsRoundTrip(t *testing.T) {
	rnd := newRand(t)
	for range 40 {
		run := randomRun(rnd, 1+rnd.Intn(60), rnd.Uint64()>>1, rnd.Int63())
		prev := run[0].counter - 1 - uint64(rnd.Intn(5))
		b := blockOf(run, prev)
		requireRun(t, run, &b)
		for _, c := range codecs {
			value := encoded(&b, c)
			require.LessOrEqual(t, len(value), b.Size())
			got, err := Decode(value)
			require.NoError(t, err)
			require.Equal(t, b.Header, got.Header)
			require.Equal(t, prev, got.Prev)
			require.Equal(t, b.End(), got.End())
			requireRun(t, run, &got)
			require.Equal(t, encoded(&b, c), encoded(&got, c), "encoding again gives the same")
		}
	}
}

func TestBuilderTellsWhatItHas(t *testing.T) {
	run := evenRun(40, 700)
	var b Builder
	b.Init(run[0].counter, 0)
	size := 0
	for i := range run {
		before := b.Len()
		b.Append(&run[i].r, run[i].ms)
		require.LessOrEqual(t, b.Len()-before, EncodedSize(&run[i].r))
		require.Equal(t, i+1, int(b.Count()))
		require.Equal(t, run[i].ms, b.LastMs())
		size = b.Len()
	}
	done := b.Finish(1)
	require.Greater(t, done.Size(), size)
	require.False(t, done.IsZero())
	require.True(t, new(Block).IsZero())
}

func TestEncodedSizeIsAnUpperBound(t *testing.T) {
	rnd := newRand(t)
	for range 500 {
		r := randomRecord(rnd)
		var b Builder
		b.Init(1, 0)
		b.Append(&r, 1)
		before := b.Len()
		b.Append(&r, 2) // with a time marker
		require.LessOrEqual(t, b.Len()-before, EncodedSize(&r))
	}
}

func TestBuilderDoesNotKeepTheRecordsMemory(t *testing.T) {
	data := []byte("payload")
	var b Builder
	b.Init(1, 0)
	b.Append(&shardlog.Record{PartitionKey: "k", Data: data}, 1)
	copy(data, "changed")
	done := b.Finish(0)
	requireRun(t, []placed{{shardlog.Record{PartitionKey: "k", Data: []byte("payload")}, 1, 1}}, &done)
}

func TestCodecs(t *testing.T) {
	text := evenRun(300, 400)
	noise := randomRun(newRand(t), 20, 1, 1)
	for i := range noise {
		noise[i].r = shardlog.Record{PartitionKey: "k", Data: make([]byte, 5000)}
		newRand(t).Read(noise[i].r.Data)
	}
	for _, c := range codecs[1:] {
		b := blockOf(text, 0)
		value := b.Encoded(c)
		require.Less(t, len(value), b.Size()/2, "compressible")
		require.Equal(t, byte(c), value[13])
		got, err := Decode(value)
		require.NoError(t, err)
		require.Equal(t, b.Size(), got.Size(), "in memory it is not compressed")
		requireRun(t, text, &got)

		b = blockOf(noise, 0)
		value = b.Encoded(c)
		require.Equal(t, byte(None), value[13], "what does not get smaller is stored as it is")
		require.Len(t, value, b.Size())
	}
	b := blockOf(text, 0)
	require.Same(t, &b.Encoded(None)[0], &b.Encoded(None)[0], "without compression it is the block's own memory")
}

// A merge of blocks must read like the block that was built in one go, also
// across changes of time at the seams.
func TestMergedBlocksAreLikeOneBuiltAtOnce(t *testing.T) {
	rnd := newRand(t)
	for range 40 {
		run := randomRun(rnd, 2+rnd.Intn(80), 1000, 5000)
		var parts []*Block
		for rest := run; len(rest) > 0; {
			n := 1 + rnd.Intn(len(rest))
			part := blockOf(rest[:n], 999)
			if rnd.Intn(2) == 0 { // as it comes back from the store
				var err error
				part, err = Decode(encoded(&part, S2))
				require.NoError(t, err)
			}
			parts = append(parts, &part)
			rest = rest[n:]
		}
		b := Merge(parts...)
		requireRun(t, run, &b)
		direct := blockOf(run, 999)
		require.Equal(t, direct.Header, b.Header)
		require.True(t, bytes.Equal(direct.items(), b.items()), "the records take the same bytes")
		requireEverySeek(t, run, &b)
	}
}

func TestSeekFindsEveryRecord(t *testing.T) {
	rnd := newRand(t)
	runs := [][]placed{evenRun(1, 10), evenRun(100, 1000), evenRun(3000, 3), randomRun(rnd, 200, 1<<40, 7)}
	for i, run := range runs {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := blockOf(run, run[0].counter-1)
			requireEverySeek(t, run, &b)
			got, err := Decode(encoded(&b, Zstd))
			require.NoError(t, err)
			requireEverySeek(t, run, &got)
		})
	}
}

// requireEverySeek compares each position by number and by time with a walk
// over all records.
func requireEverySeek(t testing.TB, run []placed, b *Block) {
	t.Helper()
	var item Item
	for i := range run {
		it := seek(t, b, run[i].counter)
		ok, err := it.Next(&item)
		require.NoError(t, err)
		require.True(t, ok)
		requireItem(t, &run[i], &item)
	}
	for _, before := range []uint64{0, run[0].counter - 1} {
		it := seek(t, b, before)
		require.Equal(t, run[0].counter, it.Counter())
	}
	for _, after := range []uint64{b.End(), b.End() + 1, ^uint64(0)} {
		it := seek(t, b, after)
		require.True(t, it.Done())
	}
	i := 0
	for ms := run[0].ms - 2; ms <= run[len(run)-1].ms+2; ms++ {
		for i < len(run) && run[i].ms < ms {
			i++
		}
		it, err := b.SeekTime(ms)
		require.NoError(t, err)
		if i == len(run) {
			require.True(t, it.Done())
			continue
		}
		require.Equal(t, run[i].counter, it.Counter())
		ok, err := it.Next(&item)
		require.NoError(t, err)
		require.True(t, ok)
		requireItem(t, &run[i], &item)
	}
}

func TestOwnGivesPrivateMemory(t *testing.T) {
	run := evenRun(200, 100)
	b := blockOf(run, 0)
	whole := encoded(&b, None)
	it, stop := seek(t, &b, run[20].counter), seek(t, &b, run[150].counter)
	it.Own(stop)
	var item Item
	for i := 20; i < 150; i++ {
		ok, err := it.Next(&item)
		require.NoError(t, err)
		require.True(t, ok)
		requireItem(t, &run[i], &item)
		clear(item.Data)
		clear(item.Key)
		require.Equal(t, len(item.Data), cap(item.Data), "appending to it must not reach the next record")
	}
	require.True(t, it.Done())
	require.Equal(t, whole, b.Encoded(None), "the block is as it was")
	requireRun(t, run, &b)
}

func TestACopiedIteratorContinuesFromTheSamePlace(t *testing.T) {
	run := evenRun(10, 10)
	b := blockOf(run, 0)
	it := seek(t, &b, run[5].counter)
	same := it
	requireRest(t, run[5:], it)
	requireRest(t, run[5:], same)
}

func TestTruncatedBlocksAreDamage(t *testing.T) {
	run := evenRun(30, 200)
	for _, c := range codecs {
		b := blockOf(run, 0)
		value := encoded(&b, c)
		for n := range value {
			_, err := Decode(bytes.Clone(value[:n]))
			require.True(t, isDamage(err), "%d of %d bytes: %v", n, len(value), err)
		}
		_, err := Decode(append(bytes.Clone(value), 0))
		require.True(t, isDamage(err), "a byte too many")
	}
}

func TestEverySingleFlippedBitIsDamage(t *testing.T) {
	run := evenRun(12, 30)
	run[3].r.Headers = []shardlog.Header{{Key: "a", Value: "b"}}
	run[4].r.ExplicitHashKey = shardlog.NewHashKey(1, 2)
	for _, c := range codecs {
		b := blockOf(run, 0)
		value := encoded(&b, c)
		for bit := range len(value) * 8 {
			value[bit/8] ^= 1 << (bit % 8)
			_, err := Decode(bytes.Clone(value))
			require.True(t, isDamage(err), "codec %d, bit %d: %v", c, bit, err)
			require.NotEmpty(t, err.Error())
			value[bit/8] ^= 1 << (bit % 8)
		}
		_, err := Decode(value)
		require.NoError(t, err)
	}
}

// Damage that the checksum does not show, such as a defect of the writer, must
// not end the process either.
func TestDamageWithAValidChecksumNeverPanics(t *testing.T) {
	rnd := newRand(t)
	run := randomRun(rnd, 40, 77, 5)
	for i := range run {
		run[i].r.Data = run[i].r.Data[:min(len(run[i].r.Data), 300)]
	}
	for _, c := range codecs {
		b := blockOf(run, 0)
		value := encoded(&b, c)
		for range 300 {
			bad := bytes.Clone(value)
			for range 1 + rnd.Intn(3) {
				at := 12 + rnd.Intn(len(bad)-12)
				if rnd.Intn(2) == 0 {
					at = 12 + rnd.Intn(min(len(bad)-12, 200))
				}
				bad[at] = byte(rnd.Intn(256))
			}
			fixChecksum(bad)
			use(t, bad)
		}
	}
}

func TestNewerVersionsAreTold(t *testing.T) {
	b := blockOf(evenRun(3, 10), 0)
	value := encoded(&b, None)
	v, newer := CheckVersion(value)
	require.Equal(t, version, v)
	require.False(t, newer)
	value[12] = versionIDs + 1
	fixChecksum(value)
	v, newer = CheckVersion(value)
	require.Equal(t, versionIDs+1, v)
	require.True(t, newer)
	_, newer = CheckVersion(value[:20])
	require.False(t, newer)
	value[8]++
	_, newer = CheckVersion(value)
	require.False(t, newer)
}
