package block

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func TestItemsAreWhatRecordsBecome(t *testing.T) {
	var records, items Builder
	records.Init(7, 0)
	items.Init(7, 0)
	ms := int64(1000)
	for _, key := range []string{"k", strings.Repeat("key", 60)} {
		for _, hashKey := range []shardlog.HashKey{{}, shardlog.NewHashKey(0, 0), shardlog.MaxHashKey} {
			for _, n := range []int{0, 1, 127, 128, 5000, 20_000} {
				r := shardlog.Record{PartitionKey: key, ExplicitHashKey: hashKey, Data: bytes.Repeat([]byte{byte(n)}, n)}
				before := []byte("before")
				encoded := AppendRecord(before, key, hashKey, r.Data)[len(before):]
				require.LessOrEqual(t, len(encoded), MaxEncoded(key, r.Data))
				require.Equal(t, len(encoded)-n, HeadSize(key, hashKey, n))
				it := Encoded{Key: key, HashKey: hashKey, Bytes: encoded, Data: encoded[len(encoded)-n:]}
				require.Equal(t, r, it.Record())
				require.Equal(t, r.Size(), it.Size())
				from := items.Len()
				records.Append(&r, ms)
				items.AppendEncoded(&it, ms)
				require.LessOrEqual(t, items.Len()-from, it.EncodedSize())
				ms += int64(n % 2)
			}
		}
	}
	a, b := records.Finish(3), items.Finish(3)
	require.Equal(t, a, b)
}
