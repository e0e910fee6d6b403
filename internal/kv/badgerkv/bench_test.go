package badgerkv

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

// BenchmarkReadBlocks reads blocks as the log does: it verifies the checksum of
// each. Scan reads neighbours by GetMany, get one block at a time.
func BenchmarkReadBlocks(b *testing.B) {
	for _, size := range []int{16 << 10, 256 << 10} {
		o := small(b.TempDir())
		o.ValueLogFile = 64 << 20
		s := open(b, o)
		rnd := rand.New(rand.NewSource(1))
		const blocks = 128
		var keys [][]byte
		for i := range blocks {
			k := fmt.Sprintf("b%04d", i)
			keys = append(keys, []byte(k))
			require.NoError(b, set(s, k, value(rnd, size)))
		}
		sum := uint64(0)
		b.Run(fmt.Sprintf("scan/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(blocks * size))
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, s.GetMany(keys, func(_ int, v []byte) bool { sum += xxhash.Sum64(v); return true }))
			}
		})
		b.Run(fmt.Sprintf("get/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				v, err := s.Get(keys[i%blocks])
				if err != nil {
					b.Fatal(err)
				}
				sum += xxhash.Sum64(v)
			}
		})
	}
}
