package patterns

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func generatorOf(t testing.TB, w Workload) *generator {
	w, err := w.WithDefaults()
	require.NoError(t, err)
	m, err := newMaterial(&w)
	require.NoError(t, err)
	return newGenerator(m, 7, 0)
}

// draw counts the keys of n records.
func draw(t *testing.T, k Keys, n int) map[string]int {
	g := generatorOf(t, Workload{Keys: k, Sizes: Sizes{Bytes: MinSize}})
	counts := map[string]int{}
	for range n {
		r, s := g.make(nil, 0)
		require.Equal(t, g.m.names[s.key], r.PartitionKey)
		counts[r.PartitionKey]++
	}
	return counts
}

func TestKeyDistributions(t *testing.T) {
	const n = 200_000
	uniform := draw(t, Keys{Count: 100}, n)
	require.Len(t, uniform, 100)
	for _, c := range uniform {
		require.InEpsilon(t, n/100, c, 0.15)
	}
	for _, exponent := range []float64{0.5, 1, 2} {
		zipf := draw(t, Keys{Kind: KeyZipf, Count: 1000, Exponent: exponent}, n)
		sum := 0.0
		for i := 1; i <= 1000; i++ {
			sum += math.Pow(float64(i), -exponent)
		}
		for i, key := range []string{"key-0000000", "key-0000001", "key-0000002"} {
			require.InEpsilon(t, n*math.Pow(float64(i+1), -exponent)/sum, zipf[key], 0.1, "%g %s", exponent, key)
		}
	}
	hot := draw(t, Keys{Kind: KeyHot, Count: 11, HotShare: 0.8}, n)
	require.InEpsilon(t, 0.8*n, hot["key-0000000"], 0.02)
	require.InEpsilon(t, 0.02*n, hot["key-0000005"], 0.1)
	require.Equal(t, map[string]int{"key-0000000": 10}, draw(t, Keys{Kind: KeyHot, Count: 1}, 10))
}

func TestAliasTableOfOddWeights(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, weights := range [][]float64{{1}, {0, 1}, {1, 0, 0, 3}, {1e-12, 1}} {
		table, sum := newAliasTable(weights), 0.0
		for _, w := range weights {
			sum += w
		}
		counts := make([]float64, len(weights))
		for range 20_000 {
			counts[table.draw(rng)]++
		}
		for i, w := range weights {
			require.InDelta(t, w/sum, counts[i]/20_000, 0.02)
		}
	}
}

func TestSizeDistributions(t *testing.T) {
	g := generatorOf(t, Workload{Sizes: Sizes{Kind: SizeLogNormal, Bytes: 400, Sigma: 0.6, Max: 3000}})
	var sizes []int
	var buf []byte
	for range 50_000 {
		r, _ := g.make(buf, 0)
		buf = r.Data
		sizes = append(sizes, len(r.Data))
	}
	slices.Sort(sizes)
	require.InEpsilon(t, 400, sizes[25_000], 0.03)
	// One standard deviation of the logarithm above the median.
	require.InEpsilon(t, 400*math.Exp(0.6), sizes[42_067], 0.05)
	require.LessOrEqual(t, sizes[len(sizes)-1], 3000)
	require.GreaterOrEqual(t, sizes[0], MinSize)

	g = generatorOf(t, Workload{Sizes: Sizes{Bytes: maxData}})
	r, _ := g.make(nil, 0)
	require.Len(t, r.Data, maxData)
}

func TestStamps(t *testing.T) {
	b := make([]byte, 30)
	s := stamp{producer: 65535, index: 1<<48 - 1, key: 1<<32 - 1, at: 1<<48 - 1}
	s.write(b, 99)
	got, ok := readStamp(b, 99)
	require.True(t, ok)
	require.Equal(t, s, got)
	_, ok = readStamp(b[:MinSize-1], 99)
	require.False(t, ok)
	foreign := 0
	for run := range uint64(1000) {
		if _, ok := readStamp(b, run<<40); ok {
			foreign++
		}
	}
	require.LessOrEqual(t, foreign, 1)
}

// TestSeed checks that a seed determines the records.
func TestSeed(t *testing.T) {
	data := func(seed uint64) (all []byte) {
		g := generatorOf(t, Workload{Seed: seed, Keys: Keys{Kind: KeyZipf}, Sizes: Sizes{Kind: SizeLogNormal}})
		for range 100 {
			r, _ := g.make(nil, 5)
			all = append(append(all, r.PartitionKey...), r.Data...)
		}
		return all
	}
	require.Equal(t, data(3), data(3))
	require.NotEqual(t, data(3), data(4))
}

func TestPacers(t *testing.T) {
	var all []float64
	for i := range 4 {
		p := newPacer(&Workload{Rate: 1000, Producers: 4}, i)
		for range 10 {
			all = append(all, p.next)
			p.advance()
		}
	}
	slices.Sort(all)
	for i, at := range all {
		require.InDelta(t, float64(i)*1e6, at, 1)
	}
	p := newPacer(&Workload{Rate: 1000, Producers: 1, Poisson: true, Seed: 5}, 0)
	require.InEpsilon(t, 10_000, p.backlog(10e9), 0.05)
	require.Zero(t, p.backlog(10e9))
}

func TestBuckets(t *testing.T) {
	last := int64(0)
	for ns := int64(0); ns < 1e10; ns = ns*17/16 + 1 {
		from, to := bucketOf(ns)
		require.LessOrEqual(t, from, ns)
		require.Greater(t, to, ns)
		require.GreaterOrEqual(t, from, last)
		if ns >= 128 {
			require.InEpsilon(t, math.Exp2(1./8), float64(to)/float64(from), 0.02)
		}
		last = from
	}
	h := fine()
	record(h, -5, 1)
	record(h, 1e6, 98)
	record(h, 1<<62, 1)
	l := latency(h)
	require.EqualValues(t, 100, l.Count)
	require.InEpsilon(t, 1e6, l.P50, 0.001)
	require.InEpsilon(t, float64(highest), l.Max, 0.001)
	require.Len(t, l.Buckets, 3)
	require.Equal(t, Latency{}, latency(fine()))
}

func TestBitmap(t *testing.T) {
	var a, b bitmap
	for i := range uint64(200) {
		require.True(t, a.set(i))
		require.False(t, a.set(i))
		if i%3 == 0 {
			b.set(i)
		}
	}
	require.EqualValues(t, 200, a.n)
	require.EqualValues(t, 133, a.without(&b))
	require.Zero(t, b.without(&a))
	require.EqualValues(t, 200, a.without(&bitmap{}))
}

func BenchmarkMakeRecord(b *testing.B) {
	g := generatorOf(b, Workload{Keys: Keys{Kind: KeyZipf}, Sizes: Sizes{Kind: SizeLogNormal}})
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		r, _ := g.make(buf, 0)
		buf = r.Data
	}
}
