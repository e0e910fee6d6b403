package badgerkv

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

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

// BenchmarkCommit is what a commit of one block costs, with some small values.
func BenchmarkCommit(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, size := range []int{300, 64 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("sync=%v/%dB", sync, size), func(b *testing.B) {
				o := small(b.TempDir())
				o.ValueLogFile, o.SyncWrites = 64<<20, sync
				s := open(b, o)
				rnd := rand.New(rand.NewSource(1))
				v := value(rnd, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := set(s, fmt.Sprint("k", i%1000), v); err != nil {
						b.Fatal(err)
					}
					if i%2000 == 1999 {
						b.StopTimer()
						_, _, err := s.Reclaim(int64(1000*size), int64(i*size))
						require.NoError(b, err)
						b.StartTimer()
					}
				}
			})
		}
	}
}

// BenchmarkFileChange commits blocks to a store whose value log files fill up.
// Change-ms is the median of the commits that filled one, and worst-ms the longest.
func BenchmarkFileChange(b *testing.B) {
	for _, sync := range []bool{false, true} {
		b.Run(fmt.Sprintf("sync=%v", sync), func(b *testing.B) {
			o := small(b.TempDir())
			o.ValueLogFile, o.SyncWrites = 64<<20, sync
			s := open(b, o)
			v := value(rand.New(rand.NewSource(1)), 256<<10)
			b.SetBytes(int64(len(v)))
			var changes []time.Duration
			file := uint64(1)
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				if err := set(s, fmt.Sprint("k", i%1000), v); err != nil {
					b.Fatal(err)
				}
				if took := time.Since(began); exists(valuePath(o.Dir, file+1)) {
					file++
					changes = append(changes, took)
				}
				if i%2000 == 1999 {
					b.StopTimer()
					_, _, err := s.Reclaim(int64(1000*len(v)), int64(i*len(v)))
					require.NoError(b, err)
					b.StartTimer()
				}
			}
			if n := len(changes); n > 0 {
				slices.Sort(changes)
				b.ReportMetric(changes[n/2].Seconds()*1e3, "change-ms")
				b.ReportMetric(changes[n-1].Seconds()*1e3, "worst-ms")
			}
		})
	}
}

// BenchmarkOpen opens an empty store, commits to it and closes it.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		s, err := begin(Options{Dir: b.TempDir(), ValueLogFile: 64 << 20, MinFree: 1 << 20})
		require.NoError(b, err)
		require.NoError(b, set(s, "k", make([]byte, 5000)))
		require.NoError(b, s.Close())
	}
}
