package block

import (
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// Plain agrees with Next wherever it does anything.
func TestPlainAgreesWithNext(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	sizes := []int{0, 1, 100, 127, 128, 129, 5000, 1<<14 - 1, 1 << 14, 1<<14 + 1}
	plain := 0
	for range 200 {
		var b Builder
		b.Init(1, 0)
		ms := int64(1000)
		for range 1 + r.Intn(40) {
			rec := shardlog.Record{PartitionKey: string(make([]byte, sizes[1+r.Intn(5)])), Data: make([]byte, sizes[r.Intn(len(sizes))])}
			_, _ = r.Read(rec.Data)
			switch r.Intn(8) {
			case 0:
				rec.ExplicitHashKey = shardlog.NewHashKey(r.Uint64(), r.Uint64())
			case 1:
				rec.Headers = []shardlog.Header{{Key: "k", Value: "v"}}
			case 2:
				rec.DedupID = "id"
			case 3:
				ms += int64(r.Intn(3))
			}
			b.Append(&rec, ms)
		}
		bl := b.Finish(0)
		it, err := bl.Seek(0)
		require.NoError(t, err)
		for !it.Done() {
			other := it
			var item Item
			ok, err := it.Next(&item)
			require.NoError(t, err)
			require.True(t, ok)
			var got shardlog.Record
			if !other.Plain(&got) {
				continue
			}
			plain++
			require.True(t, item.Plain())
			require.Equal(t, it, other)
			require.Equal(t, string(item.Key), got.PartitionKey)
			require.Equal(t, item.Data, got.Data)
		}
	}
	require.Greater(t, plain, 200)
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("\x00\x01\x02kab"), 2)
	f.Add([]byte{0, 1, 0x80, 1, 'k'}, 1)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		it := Iter{data: data, end: uint64(n & 0xff), known: knownFlags(version)}
		for {
			other := it
			var item Item
			ok, err := it.Next(&item)
			var r shardlog.Record
			if other.Plain(&r) {
				if err != nil || !ok || string(item.Data) != string(r.Data) || string(item.Key) != r.PartitionKey {
					t.Fatalf("Plain has %v, Next %v %v", r, item, err)
				}
			}
			if err != nil || !ok {
				return
			}
		}
	})
}
