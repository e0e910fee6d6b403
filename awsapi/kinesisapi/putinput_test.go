package kinesisapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// Keys of changing lengths leave gaps of the wrong size. Memory that is not enough
// for them is the general way's business.
func TestRunsOfChangingKeys(t *testing.T) {
	for _, keys := range [][]int{{1}, {60, 1}, {1, 60}, {1, 256}, {256, 1, 1}, {40, 41, 42}, {256}} {
		for _, data := range []int{0, 1, 7, 100, 1024} {
			for _, n := range []int{1, 2, 50, 500} {
				var entries, cbor []string
				for i := range n {
					key := strings.Repeat("k", keys[i%len(keys)])
					entries = append(entries, fmt.Sprintf(`{"Data":"%s","PartitionKey":"%s"}`, strings.Repeat("QUJD", data/3), key))
					cbor = append(cbor, "\xa2\x64Data"+string(toCBOR([]byte(strings.Repeat("x", data))))+"\x6cPartitionKey"+string(toCBOR(key)))
				}
				compareWays(t, "PutRecords", []byte(`{"Records":[`+strings.Join(entries, ",")+`],"StreamName":"s"}`), len(keys) == 1)
				compareEncoded(t, "PutRecords", []byte("\xa1\x67Records\x9f"+strings.Join(cbor, "")+"\xff"), true, len(keys) == 1)
			}
		}
	}
}

// A run that was released has nothing of the request before.
func TestRunIsEmptyAgain(t *testing.T) {
	for range 3 {
		var r putRun
		require.Zero(t, r.Len())
		r.reserve(100)
		require.Zero(t, r.Len())
		for _, res := range r.memory.results[:cap(r.memory.results)] {
			require.Zero(t, res)
		}
		copy(r.room(), "data")
		require.True(t, r.add([]byte("key"), shardlog.HashKey{}, 4))
		r.results()[0].ShardID = "x"
		r.release()
		r.release()
		require.Zero(t, r.Len())
	}
}
