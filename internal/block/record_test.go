package block

import (
	"math/rand"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// Iter.Record agrees with Next and Item.Record wherever it does anything, and it
// does nearly everything.
func TestRecordAgreesWithNext(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	sizes := []int{0, 1, 100, 127, 128, 129, 5000, 1<<14 - 1, 1 << 14, 1<<14 + 1}
	decoded, left := 0, 0
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
				for range 1 + r.Intn(4) {
					rec.Headers = append(rec.Headers, shardlog.Header{Key: strings.Repeat("k", r.Intn(200)), Value: strings.Repeat("v", r.Intn(200))})
				}
			case 2:
				rec.DedupID = strings.Repeat("i", 1+r.Intn(200))
			case 4:
				rec.ExplicitHashKey = shardlog.NewHashKey(0, 0)
				rec.Headers = []shardlog.Header{{}}
				rec.DedupID = "id"
			case 3:
				ms += int64(r.Intn(3))
			}
			b.Append(&rec, ms)
		}
		bl := b.Finish(0)
		hs := &Headers{Reuse: r.Intn(2) == 0}
		it, err := bl.Seek(0)
		require.NoError(t, err)
		for !it.Done() {
			other := it
			var item Item
			ok, err := it.Next(&item)
			require.NoError(t, err)
			require.True(t, ok)
			// What another record left is overwritten.
			got := shardlog.Record{PartitionKey: "p", Data: []byte("d"), DedupID: "i", ExplicitHashKey: shardlog.MaxHashKey, Headers: []shardlog.Header{{Key: "h"}}}
			if !other.Record(&got, hs) {
				left++
				continue
			}
			decoded++
			var want shardlog.Record
			require.NoError(t, item.Record(&want, new(Headers)))
			require.Equal(t, it, other)
			require.Equal(t, item.Ms, other.Ms())
			require.Equal(t, want, got)
		}
	}
	require.Greater(t, decoded, left/4)
}

func FuzzIterRecord(f *testing.F) {
	f.Add([]byte("\x00\x01\x02kab"), 2)
	f.Add([]byte{0, 1, 0x80, 1, 'k'}, 1)
	f.Add([]byte{flagMarker, 1, 0, 0, 0, 0, 0, 0, 0, flagID | flagHeaders, 1, 1, 2, 'i', 'd', 5, 1, 1, 'k', 1, 'v', 'p', 'd'}, 1)
	f.Add(append(append([]byte{flagExplicit, 1, 1}, make([]byte, 16)...), "kd"...), 1)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		it := Iter{data: data, end: uint64(n & 0xff), known: knownFlags(versionIDs)}
		for {
			other := it
			var item Item
			ok, err := it.Next(&item)
			var r, want shardlog.Record
			if other.Record(&r, new(Headers)) {
				if err == nil {
					err = item.Record(&want, new(Headers))
				}
				if err != nil || !ok || !reflect.DeepEqual(r, want) || !reflect.DeepEqual(it, other) {
					t.Fatalf("Record has %v, Next %v %v", r, want, err)
				}
			}
			if err != nil || !ok {
				return
			}
		}
	})
}

// Headers that are not reused stay what they are.
func TestHeadersAreTheRecords(t *testing.T) {
	var hs Headers
	var kept [][]shardlog.Header
	rec := shardlog.Record{PartitionKey: "k"}
	for i := range 500 {
		rec.Headers = nil
		for j := range i % 7 {
			rec.Headers = append(rec.Headers, shardlog.Header{Key: strconv.Itoa(i), Value: strconv.Itoa(j)})
		}
		var b Builder
		b.Init(1, 0)
		b.Append(&rec, 1)
		bl := b.Finish(0)
		it := seek(t, &bl, 0)
		var got shardlog.Record
		require.True(t, it.Record(&got, &hs))
		_ = append(got.Headers, shardlog.Header{Key: "after the end"})
		kept = append(kept, got.Headers)
	}
	for i, h := range kept {
		require.Len(t, h, i%7)
		for j := range h {
			require.Equal(t, shardlog.Header{Key: strconv.Itoa(i), Value: strconv.Itoa(j)}, h[j])
		}
	}
	allocs := testing.AllocsPerRun(1000, func() { hs.take(2) })
	require.Less(t, allocs, 0.05)
}
