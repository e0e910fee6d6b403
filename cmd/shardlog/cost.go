package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/benchmarks/patterns"
	"github.com/shardlog/shardlog/cost"
)

var costCommand = &command{
	words: "cost", short: "estimate shards and dollars on AWS",
	long: `
Estimates what a load would need and cost as a Kinesis data stream on AWS:
shards by the busiest second and the hottest key, the risk of throttling, and
dollars a month, provisioned and on demand, with and without aggregation.

The load is one of

    -rate N -size BYTES [-peak TIMES] [-hot SHARE]    described
    -from report.json [-run NAME]                     measured by a benchmark
    -records access.log [-key FIELD]                  real records, one a line

The time of a record is in brackets, as in access logs, or an RFC 3339 time in
any field of the line; its key is the field -key. Lines that are not of this form
are malformed: they are left out, counted and reported at the end, as in a log
that is cut off in its last line. It is an error if no line is well-formed.
Prices come from a dated file: -print-prices prints the built-in one, -prices
reads another.`,
}

func init() { costCommand.run = runCost }

// costFlags are the flags of the command.
type costFlags struct {
	d            cost.Description
	from, result string
	records      string
	key          int
	prices       string
	json, print  bool
}

func runCost(e *env, args []string) error {
	var c costFlags
	var o cost.Options
	f := e.flags()
	floatFlag(f, &c.d.Records, "rate", 0, 1e-6, 1e12, "records a second on average, a `number` above 0")
	int64Flag(f, &c.d.Size, "size", 0, 1, shardlog.MaxRecordSize, "`bytes` of a record, data and key, 1 to 10485760")
	floatFlag(f, &c.d.Peak, "peak", 1, 1, 1e6, "load of the busiest second, as a `multiple` of the average, 1 to 1e6")
	floatFlag(f, &c.d.HotShare, "hot", 0, 0, 1, "`share` of the records that have the most frequent key, 0 to 1")
	textFlag(f, &c.from, "from", "", "JSON `file` with the report of a benchmark", nil)
	textFlag(f, &c.result, "run", "", "`workload` in the report; required if it has several", nil)
	textFlag(f, &c.records, "records", "", "`file` with one record on each line; - for standard input", nil)
	intFlag(f, &c.key, "key", 1, 0, maxField, "`number` of the field of a line that is the partition key; 0 for the whole line")
	textFlag(f, &c.prices, "prices", "", "JSON `file` with prices; the built-in ones by default", nil)
	f.BoolVar(&c.print, "print-prices", false, "print the built-in prices as JSON, to be edited, and exit")
	f.BoolVar(&c.json, "json", false, "print JSON")
	floatFlag(f, &o.Headroom, "headroom", cost.DefaultHeadroom, 0, 0.95, "`part` of a shard's capacity to leave free in the busiest second, up to 0.95; 0 for none")
	intFlag(f, &o.Shards, "shards", 0, 1, cost.MaxShards, "`number` of shards, 1 to 100000; by default as many as are needed")
	intFlag(f, &o.Readers, "readers", 1, 0, cost.MaxReaders, "`number` of consumers that share the throughput of the shards, 0 to 1000")
	intFlag(f, &o.FanOut, "fanout", 0, 0, cost.MaxReaders, "`number` of consumers with enhanced fan-out, 0 to 1000")
	intFlag(f, &o.RetentionHours, "retention", minRetention, minRetention, maxRetention, "`hours` that records are kept, 24 to 8760")
	if _, err := e.parse(f, args, 0); err != nil {
		return err
	}
	if wrong := c.check(f); wrong != "" {
		return e.misused("%s", wrong)
	}
	// In cost.Options, 0 means the default; on the command line it means none.
	if o.Headroom == 0 {
		o.Headroom = cost.NoHeadroom
	}
	var err error
	if o.Prices, err = c.readPrices(e); err != nil {
		return err
	}
	if c.print {
		return writeJSON(e.stdout, o.Prices)
	}
	p, malformed, err := c.pattern(e)
	if err != nil {
		return err
	}
	est, err := cost.Make(p, &o)
	if err != nil {
		return err
	}
	if malformed.count > 0 {
		est.Notes = append(est.Notes, malformed.String())
		fmt.Fprintln(e.stderr, "shardlog cost:", malformed)
	}
	if c.json {
		return writeJSON(e.stdout, est)
	}
	return est.WriteText(e.stdout)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (c *costFlags) readPrices(e *env) (*cost.Prices, error) {
	if c.prices == "" {
		return cost.DefaultPrices(), nil
	}
	b, err := e.readFile(c.prices)
	if err != nil {
		return nil, err
	}
	p, err := cost.DecodePrices(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.prices, err)
	}
	return p, nil
}

// maxField is the largest number of a field.
const maxField = 1_000_000

// check returns what is wrong with the flags together, "" if nothing is.
func (c *costFlags) check(f *flagSet) string {
	described := given(f, "rate") || given(f, "size")
	ways := 0
	for _, way := range []bool{described, c.from != "", c.records != ""} {
		if way {
			ways++
		}
	}
	switch {
	case c.print:
		return ""
	case ways != 1:
		return "say one of -rate and -size, -from, -records"
	case described && (c.d.Records == 0 || c.d.Size == 0):
		return "-rate and -size go together"
	}
	for name, fits := range map[string]bool{"peak": described, "hot": described, "run": c.from != "", "key": c.records != ""} {
		if given(f, name) && !fits {
			return "-" + name + " does not go with the way in which the load is given"
		}
	}
	return ""
}

// pattern returns the load: described, measured or recorded, as the flags say.
func (c *costFlags) pattern(e *env) (p cost.Pattern, bad malformed, err error) {
	switch {
	case c.from != "":
		b, err := e.readFile(c.from)
		if err != nil {
			return p, bad, err
		}
		p, err = reportPattern(b, c.result)
		return p, bad, err
	case c.records != "":
		return recordsPattern(e.ctx, e.input(c.records), c.key)
	}
	p, err = cost.Describe(c.d)
	return p, bad, err
}

// reportPattern returns the load that a benchmark's report describes. Of several
// runs of the same workload it uses the last.
func reportPattern(b []byte, name string) (cost.Pattern, error) {
	invalid := func(value any, limit string) (cost.Pattern, error) {
		return cost.Pattern{}, &shardlog.InvalidError{Field: "report", Value: value, Limit: limit}
	}
	var r patterns.Report
	if err := json.Unmarshal(b, &r); err != nil {
		return invalid(err.Error(), "the JSON report of a benchmark")
	}
	if r.Format != patterns.ReportFormat || r.Version != patterns.ReportVersion {
		return invalid(fmt.Sprintf("%s version %d", r.Format, r.Version), fmt.Sprintf("%s version %d", patterns.ReportFormat, patterns.ReportVersion))
	}
	var res *patterns.Result
	names := map[string]bool{}
	for i := range r.Results {
		if w := r.Results[i].Workload.Name; name == "" || w == name {
			res, names[w] = &r.Results[i], true
		}
	}
	switch {
	case res == nil:
		return invalid(name, "a report with a result of that name")
	case len(names) > 1:
		return invalid(fmt.Sprintf("%d workloads", len(names)), "of one workload; name it with -run")
	case res.Stored.Records == 0 || res.Seconds <= 0:
		return invalid(res.Workload.Name, "of a run that stored records")
	}
	s := res.Stored
	p := cost.Pattern{
		Records: s.RecordsPerSecond, Bytes: s.BytesPerSecond, PutUnits: s.PutUnitsPerSecond, RoundedBytes: float64(s.RoundedBytes) / res.Seconds,
		PeakRecords: float64(s.WorstSecondRecords), PeakBytes: float64(s.WorstSecondBytes), Aggregated: res.Workload.Aggregate,
		HotShare: hotShare(res), Basis: fmt.Sprintf("measured: %s on %s, %.0f s, %d shards", res.Workload.Name, res.Target, res.Seconds, len(res.Shards)),
	}
	return p, nil
}

// hotShare returns the share h of the load that is on one key and so cannot be
// spread over shards. In its busiest second the fullest of n shards has
// h + (1-h)/n of the load, which is solved for h. The hottest key's share of all
// records is a lower bound.
func hotShare(res *patterns.Result) float64 {
	h := 0.0
	if len(res.Keys) > 0 {
		h = res.Keys[0].Share
	}
	n := float64(len(res.Shards))
	for _, s := range res.Shards {
		if n < 2 {
			break
		}
		for _, share := range []float64{
			float64(s.WorstSecondRecords) / max(1, float64(res.Stored.WorstSecondRecords)),
			float64(s.WorstSecondBytes) / max(1, float64(res.Stored.WorstSecondBytes)),
		} {
			h = max(h, (share*n-1)/(n-1))
		}
	}
	return min(1, max(0, h))
}
