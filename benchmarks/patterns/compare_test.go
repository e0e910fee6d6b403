package patterns

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// reportOf returns a report with one run for each throughput.
func reportOf(throughputs ...float64) *Report {
	r := NewReport()
	for _, v := range throughputs {
		w, err := Workload{Name: "w"}.WithDefaults()
		if err != nil {
			panic(err)
		}
		r.Results = append(r.Results, Result{
			Workload: w, Target: "t", Seconds: 1, Records: int64(v), RecordsPerSecond: v,
			Ack:       Latency{Count: int64(v), Mean: 1e9 / v, P50: int64(1e9 / v), P90: int64(2e9 / v), P99: int64(5e9 / v), P999: int64(8e9 / v), Max: int64(9e9 / v), Buckets: []LatencyBucket{{1 << 20, 1<<20 + 1<<17, 5}}},
			Sizes:     []SizeBucket{{256, int64(v), int64(v) * 256}},
			Stored:    Stored{Records: int64(v), WorstSecondRecords: int64(v)},
			Shards:    []ShardLoad{{ID: "shardId-000000000000", Records: int64(v), Share: 1, WorstSecondRecords: int64(v)}},
			Keys:      []KeyLoad{{"</script><b>", int64(v), 1}},
			PerSecond: []Second{{Records: int64(v), AckP50: 5, AckP99: 6, AckMax: 7, StoredRecords: []int64{int64(v)}, StoredBytes: []int64{1}}},
			Check:     Check{Acked: int64(v)},
		})
	}
	return r
}

func rowOf(t *testing.T, rows []Row, name string) Row {
	for _, r := range rows {
		if r.Metric == name {
			return r
		}
	}
	require.Fail(t, "no row "+name)
	return Row{}
}

func TestCompare(t *testing.T) {
	base := reportOf(100, 101, 99, 100.5, 99.5, 100.2)
	for name, c := range map[string]struct {
		other   *Report
		verdict string
		p       float64
	}{
		"faster":        {reportOf(110, 111, 109, 110.5, 109.5, 110.2), Better, 2. / 924},
		"slower":        {reportOf(90, 91, 89, 90.5, 89.5, 90.2), Worse, 2. / 924},
		"the same":      {base, Same, 1},
		"noise":         {reportOf(98, 103, 100.1, 99.2, 101.5, 97), Same, 0.818},
		"too few":       {reportOf(200), TooFew, 2. / 7},
		"another":       {NewReport(), Missing, 1},
		"all equal":     {reportOf(100, 100, 100, 100), Same, 0.9},
		"of four":       {reportOf(110, 111, 112, 113), Better, 2. / 210},
		"equal of four": {reportOf(100.2, 100.2, 100.2, 100.2), Same, 0.77},
	} {
		rows := Compare(base, c.other)
		r := rowOf(t, rows, "throughput")
		require.Equal(t, 6, r.Summaries[0].N, name)
		require.InDelta(t, 100.1, r.Summaries[0].Median, 1e-9)
		require.Equal(t, 99.0, *r.Summaries[0].Low) // six runs: their extremes, 96.9 %
		require.Equal(t, 101.0, *r.Summaries[0].High)
		d := r.Differences[0]
		require.Equal(t, c.verdict, d.Verdict, name)
		require.InDelta(t, c.p, d.P, 0.15, name)
		if c.verdict == Better || c.verdict == Worse {
			require.InDelta(t, c.p, d.P, 1e-9, name)
			// The latency of a run is better when its throughput is.
			require.Equal(t, c.verdict, rowOf(t, rows, "ack p50").Differences[0].Verdict)
		}
	}
	four := Compare(reportOf(1, 2, 3, 4), reportOf(5, 6, 7))
	require.Nil(t, four[0].Summaries[0].Low)
	require.Equal(t, 2.5, four[0].Summaries[0].Median)
	require.Equal(t, TooFew, Compare(reportOf(1, 2, 3), reportOf(5, 6, 7))[0].Differences[0].Verdict)
	require.Empty(t, Compare())
}

func TestComparisonText(t *testing.T) {
	a, b := reportOf(100, 101, 99, 100.5, 99.5, 100.2), reportOf(110, 111, 109, 110.5, 109.5, 110.2)
	b.Results[0].Workload.Name = "other"
	var out strings.Builder
	require.NoError(t, WriteComparison(&out, []string{"a", "b"}, Compare(a, b)))
	require.Regexp(t, `(?m)^w on t +a +b$`, out.String())
	require.Regexp(t, `(?m)^  throughput +100 records/s ±1% +110 records/s  \+10\.1% better \(p=0\.004 n=6\+5\)$`, out.String())
	require.Regexp(t, `(?m)^  ack p50 +9\.99 ms ±1% +9\.07 ms  -9\.\d% better`, out.String())
	require.Regexp(t, `(?m)^other on t +a +b$`, out.String())
	require.NotContains(t, out.String(), "Too few")
	out.Reset()
	require.NoError(t, WriteComparison(&out, []string{"a", "b"}, Compare(reportOf(1), reportOf(2))))
	require.Contains(t, out.String(), "? (+100.0%, n=1)")
	require.Contains(t, out.String(), "Too few runs")
}

func TestReportGoesThroughJSON(t *testing.T) {
	rep := reportOf(5, 6)
	var b bytes.Buffer
	require.NoError(t, rep.Write(&b))
	got, err := Read(&b)
	require.NoError(t, err)
	require.Equal(t, rep, got)
}

func TestText(t *testing.T) {
	rep := reportOf(5)
	r := &rep.Results[0]
	r.Backlog, r.Failed, r.Throttled = 7, 2, 3
	r.Delivery = r.Ack
	r.Workload.Consumers.Count = 1
	r.Disk = &Disk{Bytes: 1 << 20, Written: 1 << 21, Amplification: 2}
	r.Check = Check{Acked: 5, Delivered: 3, Missing: 2, Duplicates: 1, Misordered: 4, Foreign: 6}
	var b strings.Builder
	require.NoError(t, rep.WriteText(&b))
	for _, want := range []string{
		"w on t", "5 records in 1.0 s: 5/s", "did not keep up: 7 records", "2 records failed", "p50 200 ms", "max 1.80 s", "3 puts, 0 reads",
		"busiest shardId-000000000000 with 100.0 %", "1.00 MiB", "2.00 MiB written (2.00 times)",
		"2 RECORDS MISSING, 6 RECORDS OF ANOTHER RUN, 1 RECORDS DELIVERED TWICE, 4 RECORDS OUT OF ORDER",
	} {
		require.Contains(t, b.String(), want)
	}
	require.Equal(t, "2 records missing, 6 records of another run", r.Check.Problem(false))
	require.Empty(t, (&Check{Acked: 5}).Problem(true))
	for v, want := range map[float64]string{0: "0", 12: "12 ns", 1234: "1.23 µs", 45.6e6: "45.6 ms", 99.99e9: "100 s"} {
		require.Equal(t, want, nanos(v))
	}
	for v, want := range map[float64]string{5: "5", 1.5: "1.50", 9999: "9999", 12345: "12.3 k", 5e6: "5.00 M", 7e9: "7.00 G"} {
		require.Equal(t, want, count(v))
	}
}
