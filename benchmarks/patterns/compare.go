package patterns

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/aclements/go-moremath/stats"

	"github.com/shardlog/shardlog"
)

// Read parses a Report. The error matches shardlog.ErrInvalid if data is not a
// report, or is one of a later version.
func Read(r io.Reader) (*Report, error) {
	var rep Report
	d := json.NewDecoder(r)
	if err := d.Decode(&rep); err != nil {
		return nil, fmt.Errorf("%w: report: %w", shardlog.ErrInvalid, err)
	}
	if rep.Format != ReportFormat {
		return nil, &shardlog.InvalidError{Field: "format", Value: rep.Format, Limit: ReportFormat}
	}
	if rep.Version < 1 || rep.Version > ReportVersion {
		return nil, &shardlog.InvalidError{Field: "version", Value: rep.Version, Limit: fmt.Sprint("1 to ", ReportVersion)}
	}
	return &rep, nil
}

// Write writes the report as JSON. The error is that of w.
func (r *Report) Write(w io.Writer) error { return WriteJSON(w, r) }

// WriteJSON writes v as indented JSON. The error is that of w.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(v)
}

// figure is a number of a Result by which runs are compared.
type figure struct {
	name, unit string
	more       bool // more is better
	of         func(*Result) (v float64, ok bool)
}

// figures are in the order in which they are printed.
var figures = []figure{
	{"throughput", "records/s", true, func(r *Result) (float64, bool) { return r.RecordsPerSecond, true }},
	{"delivered", "records/s", true, func(r *Result) (float64, bool) { return r.DeliveredPerSecond, r.Delivery.Count > 0 }},
	{"ack p50", "ns", false, func(r *Result) (float64, bool) { return float64(r.Ack.P50), r.Ack.Count > 0 }},
	{"ack p99", "ns", false, func(r *Result) (float64, bool) { return float64(r.Ack.P99), r.Ack.Count > 0 }},
	{"ack p99.9", "ns", false, func(r *Result) (float64, bool) { return float64(r.Ack.P999), r.Ack.Count > 0 }},
	{"delivery p50", "ns", false, func(r *Result) (float64, bool) { return float64(r.Delivery.P50), r.Delivery.Count > 0 }},
	{"delivery p99", "ns", false, func(r *Result) (float64, bool) { return float64(r.Delivery.P99), r.Delivery.Count > 0 }},
	{"throttled", "refusals", false, func(r *Result) (float64, bool) { return float64(r.Throttled), true }},
	{"in a stored record", "records", true, func(r *Result) (float64, bool) {
		return float64(r.Records) / float64(r.Stored.Records), r.Workload.Aggregate && r.Stored.Records > 0
	}},
	{"CPU", "ns/record", false, func(r *Result) (float64, bool) { return r.Process.CPUPerRecord, r.Process.CPUPerRecord > 0 }},
	{"allocations", "/record", false, func(r *Result) (float64, bool) { return r.Process.AllocsPerRecord, true }},
	{"allocated", "B/record", false, func(r *Result) (float64, bool) { return r.Process.AllocBytesPerRecord, true }},
	{"write amplification", "", false, func(r *Result) (float64, bool) {
		if r.Disk == nil {
			return 0, false
		}
		return r.Disk.Amplification, r.Disk.Amplification > 0
	}},
}

// Alpha is the significance level: the probability that a difference which
// Compare reports is chance. benchstat uses the same.
const Alpha = 0.05

// Summary is one figure over several runs.
type Summary struct {
	// N is the number of runs, 0 if the report does not have the workload or
	// the figure.
	N int `json:"n"`
	// Median, and the bounds of its 95 % confidence interval, which are nil for
	// fewer than six runs.
	Median float64  `json:"median"`
	Low    *float64 `json:"low"`
	High   *float64 `json:"high"`
}

// Verdicts of Difference.
const (
	Same    = "same"    // no difference larger than the noise
	Better  = "better"  // larger than the noise
	Worse   = "worse"   // larger than the noise
	TooFew  = "too few" // too few runs to find any difference
	Missing = "missing" // one of the sides does not have the figure
)

// Difference says how one report differs from the first one in one figure.
type Difference struct {
	// Verdict is Same, Better, Worse, TooFew or Missing.
	Verdict string `json:"verdict"`
	// Change of the median, as a part of the first one's: 0.1 is 10 % more.
	Change float64 `json:"change"`
	// P is the probability of a difference as large as this one by chance alone,
	// from the two-sided Mann-Whitney U test, which is exact for samples of the
	// usual size; 1 if the test is not possible.
	P float64 `json:"p"`
}

// Row compares one figure of one workload.
type Row struct {
	Workload string `json:"workload"`
	Target   string `json:"target"`
	Metric   string `json:"metric"`
	Unit     string `json:"unit"`
	// Summaries has an entry for each report, Differences one for each but the
	// first.
	Summaries   []Summary    `json:"summaries"`
	Differences []Difference `json:"differences"`
}

// Compare says for each workload and figure how the reports differ from the
// first one. The statistics are those of benchstat: medians with confidence
// intervals from order statistics, and the Mann-Whitney U test, which
// assumes nothing about the distribution. Runs of different machines or durations
// are compared as well. At this significance level about five of a hundred figures
// that do not differ will appear to.
func Compare(reports ...*Report) []Row {
	rows := []Row{}
	for _, key := range workloads(reports) {
		for _, m := range figures {
			row := Row{Workload: key[0], Target: key[1], Metric: m.name, Unit: m.unit, Summaries: []Summary{}, Differences: []Difference{}}
			var first []float64
			some := false
			for i, rep := range reports {
				values := rep.values(key, m)
				some = some || slices.ContainsFunc(values, func(v float64) bool { return v != 0 })
				row.Summaries = append(row.Summaries, summarize(values))
				if i == 0 {
					first = values
					continue
				}
				row.Differences = append(row.Differences, differ(first, values, m.more))
			}
			if some {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// workloads returns the names and targets in the reports, in their order.
func workloads(reports []*Report) (keys [][2]string) {
	for _, rep := range reports {
		for i := range rep.Results {
			r := &rep.Results[i]
			if k := [2]string{r.Workload.Name, r.Target}; !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// values returns a figure of each run of a workload on a target.
func (r *Report) values(key [2]string, m figure) (values []float64) {
	for i := range r.Results {
		res := &r.Results[i]
		if res.Workload.Name != key[0] || res.Target != key[1] {
			continue
		}
		if v, ok := m.of(res); ok && !math.IsNaN(v) && !math.IsInf(v, 0) {
			values = append(values, v)
		}
	}
	return values
}

func summarize(values []float64) Summary {
	s := Summary{N: len(values)}
	if s.N == 0 {
		return s
	}
	sample := stats.Sample{Xs: slices.Sorted(slices.Values(values)), Sorted: true}
	if s.N == 1 {
		s.Median = sample.Xs[0]
		return s
	}
	median, low, high := stats.QuantileCI(s.N, 0.5, 1-Alpha).SampleCI(sample)
	s.Median = median
	if !math.IsInf(low, 0) && !math.IsInf(high, 0) {
		s.Low, s.High = &low, &high
	}
	return s
}

// differ compares two samples.
func differ(a, b []float64, more bool) Difference {
	d := Difference{Verdict: Missing, P: 1}
	if len(a) == 0 || len(b) == 0 {
		return d
	}
	was, is := summarize(a).Median, summarize(b).Median
	if was != 0 {
		d.Change = is/was - 1
	}
	d.Verdict = Same
	// The test fails for empty samples, which are handled above, and for values
	// that are all equal, which do not differ.
	if t, err := stats.MannWhitneyUTest(a, b, stats.LocationDiffers); err == nil {
		d.P = t.P
	}
	switch {
	case d.P <= Alpha && is != was:
		if d.Verdict = Worse; (is > was) == more {
			d.Verdict = Better
		}
	case smallestP(len(a), len(b)) > Alpha:
		d.Verdict = TooFew
	}
	return d
}

// smallestP returns the smallest probability that the two-sided test can give for
// samples of these sizes: every value of one is above every value of the other.
func smallestP(n, m int) float64 {
	ways := 1.0 // the binomial coefficient, n of n+m
	for i := 1; i <= n; i++ {
		ways *= float64(m+i) / float64(i)
	}
	return 2 / ways
}
