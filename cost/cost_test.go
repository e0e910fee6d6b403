package cost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func describe(t testing.TB, d Description) Pattern {
	t.Helper()
	p, err := Describe(d)
	require.NoError(t, err)
	return p
}

func estimate(t testing.TB, p Pattern, o *Options) map[string]Plan {
	t.Helper()
	e, err := Make(p, o)
	require.NoError(t, err)
	plans := map[string]Plan{}
	for _, p := range e.Plans {
		sum := 0.0
		for _, l := range p.Lines {
			require.InDelta(t, l.Quantity*l.Price, l.Dollars, 1e-9)
			sum += l.Dollars
		}
		require.InDelta(t, sum, p.Dollars, 1e-6)
		plans[p.Name] = p
	}
	return plans
}

// line returns a part of a plan, in dollars.
func line(t testing.TB, p Plan, what string) float64 {
	t.Helper()
	for _, l := range p.Lines {
		if l.What == what {
			return l.Dollars
		}
	}
	t.Fatalf("%s has no line %q", p.Name, what)
	return 0
}

const cent = 0.005

func TestUnits(t *testing.T) {
	for bytes, want := range map[int64]int64{0: 1, 1: 1, 5 << 10: 1, 5000: 1, 25 << 10: 1, 25<<10 + 1: 2, 45 << 10: 2, 45_000: 2, 1_000_000: 40, 1000 << 10: 40, 1 << 20: 41} {
		require.Equal(t, want, PutUnits(bytes), bytes)
	}
	for bytes, want := range map[int64]int64{0: 1024, 1: 1024, 500: 1024, 1024: 1024, 1025: 2048, 4608: 5120} {
		require.Equal(t, want, RoundedBytes(bytes), bytes)
	}
}

func TestBuiltInPrices(t *testing.T) {
	p := DefaultPrices()
	require.Equal(t, "us-east-1", p.Region)
	require.InDelta(t, 730, p.HoursPerMonth, 0)
	for _, c := range []struct {
		want  float64
		price Price
	}{
		{0.015, p.Prices.ShardHour}, {0.014, p.Prices.PutUnitMillion}, {0.04, p.Prices.OnDemandStreamHour}, {0.08, p.Prices.OnDemandInGB}, {0.04, p.Prices.OnDemandOutGB},
		{0.013, p.Prices.FanOutGB}, {0.015, p.Prices.FanOutShardHour}, {0.05, p.Prices.OnDemandFanOutGB},
	} {
		require.InDelta(t, c.want, c.price.usd(), 0)
	}
	for _, p := range []Price{p.Prices.ExtendedShardHour, p.Prices.LongTermGBMonth, p.Prices.OnDemandExtendedGBMonth, p.Prices.OnDemandLongTermGBMonth} {
		require.Contains(t, p.doubt(), "unclear")
	}
}

// 1,000 records/s of 500 B, the numbers worked out by hand.
func TestThousandOf500(t *testing.T) {
	p := describe(t, Description{Records: 1000, Size: 500})
	plans := estimate(t, p, &Options{Headroom: NoHeadroom})
	prov := plans[Provisioned]
	require.Equal(t, 1, prov.Shards)
	require.InDelta(t, 10.95, line(t, prov, "shards"), cent)
	require.InDelta(t, 36.79, line(t, prov, "PUT payload units"), cent)
	require.InDelta(t, 47.74, prov.Dollars, cent)
	require.Equal(t, RiskNone, prov.Throttling.Risk)
	require.InDelta(t, 1, prov.Throttling.Fill, 1e-9)
	require.InDelta(t, 11.67, plans[ProvisionedAggregated].Dollars, cent)
	require.InDelta(t, 229.70, plans[OnDemand].Dollars, cent)
	require.InDelta(t, 29.20+500*2_628_000*1000./gb*0.08, plans[OnDemandAggregated].Dollars, cent)
	// With headroom, it needs a second one.
	require.Equal(t, 2, estimate(t, p, nil)[Provisioned].Shards)
	require.Equal(t, RiskLow, estimate(t, p, &Options{Shards: 1})[Provisioned].Throttling.Risk)
}

func TestReadersAndRetention(t *testing.T) {
	p := describe(t, Description{Records: 1000, Size: 1024})
	gbMonth := 1000 * 1024 * 2_628_000. / gb
	plans := estimate(t, p, &Options{Headroom: NoHeadroom, Readers: 2, FanOut: 3, RetentionHours: 30 * 24})
	prov, on := plans[Provisioned], plans[OnDemand]
	require.InDelta(t, 3*10.95*float64(prov.Shards), line(t, prov, "fan-out consumers"), cent)
	require.InDelta(t, 3*gbMonth*0.013, line(t, prov, "fan-out data"), cent)
	require.InDelta(t, 14.60*float64(prov.Shards), line(t, prov, "extended retention"), cent)
	require.InDelta(t, 1000*1024*23*86400./gb*0.023, line(t, prov, "long-term retention"), cent)
	require.InDelta(t, 2*gbMonth*0.04, line(t, on, "data out"), cent)
	require.InDelta(t, 3*gbMonth*0.05, line(t, on, "fan-out data"), cent)
	require.InDelta(t, 1000*1024*6*86400./gb*0.10, line(t, on, "extended retention"), cent)
	require.InDelta(t, 1000*1024*23*86400./gb*0.023, line(t, on, "long-term retention"), cent)

	e, err := Make(p, &Options{RetentionHours: 8760})
	require.NoError(t, err)
	notes := strings.Join(e.Notes, "\n")
	require.Contains(t, notes, "The price of extended retention (provisioned")
	require.Contains(t, notes, "The price of long-term retention (on-demand")
	require.Contains(t, notes, "unit is unclear")
	require.Contains(t, notes, "single source")

	// Eight readers share the 2 MiB/s of a shard: they need four times as many.
	require.Equal(t, 4, estimate(t, describe(t, Description{Records: 100, Size: 10 << 10}), &Options{Headroom: NoHeadroom, Readers: 8})[Provisioned].Shards)
}

func TestWorstSecondDecides(t *testing.T) {
	e, err := Make(describe(t, Description{Records: 1000, Size: 100, Peak: 10}), nil)
	require.NoError(t, err)
	require.Equal(t, 1, e.Need.AverageShards)
	require.Equal(t, 13, e.Need.Shards) // 10,000 / 800

	// A key with a twentieth of 10,000 has 500 alone, and leaves 300 for the rest.
	e, err = Make(describe(t, Description{Records: 10_000, Size: 100, HotShare: 0.05}), nil)
	require.NoError(t, err)
	require.InDelta(t, 0.5, e.Need.HotKeyFill, 1e-9)
	require.Equal(t, 32, e.Need.Shards) // 9,500 / 300
	require.Equal(t, RiskNone, e.Plans[0].Throttling.Risk)

	e, err = Make(describe(t, Description{Records: 10_000, Size: 100, HotShare: 0.5}), nil)
	require.NoError(t, err)
	require.Equal(t, RiskAlways, e.Plans[0].Throttling.Risk)
	require.Contains(t, strings.Join(e.Notes, "\n"), "5.0 times what a shard takes")
	require.Equal(t, RiskNone, e.Plans[1].Throttling.Risk, "aggregates make few records of it")
}

func TestTrace(t *testing.T) {
	var tr Trace
	_, err := tr.Pattern()
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	require.Zero(t, tr.Seconds())
	start := time.Unix(1_000_000, 0)
	// 100 seconds of 10 records, and one with 900 of a key and 600 of others.
	for s := range 100 {
		for i := range 10 {
			require.NoError(t, tr.Add(start.Add(time.Duration(s)*time.Second), fmt.Sprint("key-", i), 100))
		}
	}
	for i := range 1500 {
		key := "hot"
		if i >= 900 {
			key = fmt.Sprint("key-", i)
		}
		require.NoError(t, tr.Add(start.Add(50*time.Second), key, 100))
	}
	p, err := tr.Pattern()
	require.NoError(t, err)
	require.EqualValues(t, 100, tr.Seconds())
	require.EqualValues(t, 2500, tr.Records())
	require.InDelta(t, 25, p.Records, 1e-9)
	require.InDelta(t, 1510, p.PeakRecords, 1e-9)
	require.InDelta(t, 900./1510, p.HotShare, 1e-9)
	e, err := Make(p, &Options{Headroom: 0.05})
	require.NoError(t, err)
	require.Equal(t, 1, e.Need.AverageShards)
	require.Equal(t, "hot", e.Need.HotKey)
	require.InDelta(t, 0.9, e.Need.HotKeyFill, 1e-9)
	// An even spread would do with two; the hot key's shard has 50 left.
	require.Greater(t, e.Need.Shards, 2)
	got := e.Plans[0].Throttling
	require.LessOrEqual(t, got.Fill, 0.95)
	require.Zero(t, got.SecondsOver)
	e, err = Make(p, &Options{Shards: 1})
	require.NoError(t, err)
	require.Equal(t, RiskHigh, e.Plans[0].Throttling.Risk)
	require.Equal(t, 1, e.Plans[0].Throttling.SecondsOver)
	require.InDelta(t, 1.51, e.Plans[0].Throttling.Fill, 1e-9)
	require.ErrorIs(t, tr.Add(start, "k", -1), shardlog.ErrInvalid)
	require.ErrorIs(t, tr.Add(start, "k", 11<<20), shardlog.ErrInvalid)
}

// Keys are placed where a new stream with even ranges has them.
func TestTracePlacesKeysAsStreamsDo(t *testing.T) {
	for n := 1; n <= 7; n++ {
		var tr Trace
		var want [7]float64
		width := math.Ldexp(1, 64) / float64(n)
		for i := range 500 {
			key := fmt.Sprint(i)
			require.NoError(t, tr.Add(time.Unix(1, 0), key, 1))
			hi, _ := shardlog.KeyHash(key).Words()
			want[int(float64(hi)/width)]++
		}
		r, b, over := tr.worst(n)
		top := 0.0
		for _, w := range want {
			top = max(top, w)
		}
		require.InDelta(t, top, r, 0)
		require.InDelta(t, top, b, 0)
		require.Zero(t, over)
	}
}

func TestBadInput(t *testing.T) {
	for _, d := range []Description{{Size: 1}, {Records: -1, Size: 1}, {Records: math.NaN(), Size: 1}, {Records: math.Inf(1), Size: 1}, {Records: 1}, {Records: 1, Size: 11 << 20}, {Records: 1, Size: 1, Peak: 0.5}, {Records: 1, Size: 1, Peak: math.NaN()}, {Records: 1, Size: 1, HotShare: 2}, {Records: 1, Size: 1, HotShare: math.NaN()}} {
		_, err := Describe(d)
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, "%+v", d)
	}
	good := describe(t, Description{Records: 1, Size: 1})
	for _, o := range []Options{{Headroom: 1}, {Headroom: -0.5}, {Headroom: math.NaN()}, {Shards: -1}, {Shards: 100_001}, {Readers: -1}, {FanOut: 1001}, {RetentionHours: 23}, {RetentionHours: 8761}, {Prices: &Prices{}}} {
		_, err := Make(good, &o)
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, "%+v", o)
	}
	for _, change := range []func(*Pattern){func(p *Pattern) { p.Records = 0 }, func(p *Pattern) { p.Bytes = math.NaN() }, func(p *Pattern) { p.HotShare = -1 }, func(p *Pattern) { p.PeakBytes = math.Inf(1) }} {
		p := good
		change(&p)
		_, err := Make(p, nil)
		require.ErrorIs(t, err, shardlog.ErrInvalid)
	}
}

func TestBadPrices(t *testing.T) {
	failed := errors.New("failed")
	_, err := ReadPrices(iotest.ErrReader(failed))
	require.ErrorIs(t, err, failed)
	for _, c := range [][2]string{
		{"shardlog-prices", "other"}, {`"version": 1`, `"version": 2`}, {"2026-", "26-"}, {`"us-east-1"`, `""`}, {"USD", "EUR"}, {"730", "0"}, {"0.013", "-1"}, {"0.013", "1e7"},
		{`"usd": 0.013,`, ""}, {`"unit": "GB",`, `"unit": "",`}, {`"format"`, `"fromat"`}, {"}\n}", "}}{"}, {`"sources": ["https://c3x.dev/resources/aws/aws_kinesis_stream"`, `"sources": [""`},
	} {
		changed := bytes.Replace(builtIn, []byte(c[0]), []byte(c[1]), 1)
		require.NotEqual(t, builtIn, changed, c)
		_, err := ReadPrices(bytes.NewReader(bytes.TrimSpace(changed)))
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, c)
	}
	_, err = ReadPrices(strings.NewReader(strings.Repeat(" ", maxPrices+1)))
	require.ErrorIs(t, err, shardlog.ErrInvalid)
}

func TestTextAndJSON(t *testing.T) {
	p := describe(t, Description{Records: 1000, Size: 500})
	e, err := Make(p, &Options{Headroom: NoHeadroom, RetentionHours: 48, Readers: 1})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, e.WriteText(&out))
	for _, want := range []string{"prices as of " + DefaultPrices().Date, "$10.95", "$36.79", "in doubt", "risk of throttling: none", "extended retention"} {
		require.Contains(t, out.String(), want)
	}
	b, err := json.Marshal(e)
	require.NoError(t, err)
	var back Estimate
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, e.Plans, back.Plans)
	require.Equal(t, e.PricesDate, back.PricesDate)
}

func FuzzDecodePrices(f *testing.F) {
	f.Add(builtIn)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"format":"shardlog-prices","version":1,"prices":{"shardHour":{"usd":1e999}}}`))
	p := describe(f, Description{Records: 1234, Size: 30_000, Peak: 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		prices, err := DecodePrices(b)
		if err != nil {
			require.ErrorIs(t, err, shardlog.ErrInvalid)
			return
		}
		e, err := Make(p, &Options{Prices: prices, RetentionHours: 8760, FanOut: 2, Readers: 2})
		require.NoError(t, err)
		for _, plan := range e.Plans {
			require.False(t, math.IsNaN(plan.Dollars) || math.IsInf(plan.Dollars, 0) || plan.Dollars < 0)
		}
	})
}
