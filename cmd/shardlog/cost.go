package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

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
any field of the line; its key is the field -key. Prices come from a dated file:
-print-prices prints the built-in one, -prices reads another.`,
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
	f.Float64Var(&c.d.Records, "rate", 0, "records a second on average")
	f.Int64Var(&c.d.Size, "size", 0, "bytes of a record, data and key")
	f.Float64Var(&c.d.Peak, "peak", 1, "load of the busiest second, as a multiple of the average")
	f.Float64Var(&c.d.HotShare, "hot", 0, "share of the records that have the most frequent key, 0 to 1")
	f.StringVar(&c.from, "from", "", "JSON report of a benchmark")
	f.StringVar(&c.result, "run", "", "workload in the report; required if it has several")
	f.StringVar(&c.records, "records", "", "file with one record on each line; - for standard input")
	f.IntVar(&c.key, "key", 1, "number of the field of a line that is the partition key; 0 for the whole line")
	f.StringVar(&c.prices, "prices", "", "JSON file with prices; the built-in ones by default")
	f.BoolVar(&c.print, "print-prices", false, "print the built-in prices as JSON, to be edited, and exit")
	f.BoolVar(&c.json, "json", false, "print JSON")
	f.Float64Var(&o.Headroom, "headroom", cost.DefaultHeadroom, "part of a shard's capacity to leave free in the busiest second; 0 for none")
	f.IntVar(&o.Shards, "shards", 0, "number of shards; by default as many as are needed")
	f.IntVar(&o.Readers, "readers", 1, "consumers that share the throughput of the shards")
	f.IntVar(&o.FanOut, "fanout", 0, "consumers with enhanced fan-out")
	f.IntVar(&o.RetentionHours, "retention", 24, "hours that records are kept, 24 to 8760")
	if _, err := e.parse(f, args, 0); err != nil {
		return err
	}
	// In cost.Options, 0 means the default; on the command line it means none.
	if o.Headroom == 0 {
		o.Headroom = cost.NoHeadroom
	} else if o.Headroom < 0 {
		return &shardlog.InvalidError{Field: "headroom", Value: o.Headroom, Limit: "0 to 0.95"}
	}
	if o.RetentionHours == 0 {
		return &shardlog.InvalidError{Field: "retention", Value: 0, Limit: "24 to 8760 hours"}
	}
	var err error
	if o.Prices, err = c.readPrices(); err != nil {
		return err
	}
	if c.print {
		return writeJSON(e.stdout, o.Prices)
	}
	p, err := c.pattern(e)
	if err != nil {
		return err
	}
	est, err := cost.Make(p, &o)
	if err != nil {
		return err
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

func (c *costFlags) readPrices() (*cost.Prices, error) {
	if c.prices == "" {
		return cost.DefaultPrices(), nil
	}
	f, err := os.Open(c.prices)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := cost.ReadPrices(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.prices, err)
	}
	return p, nil
}

// pattern returns the load: described, measured or recorded, as the flags say.
func (c *costFlags) pattern(e *env) (cost.Pattern, error) {
	ways := 0
	for _, given := range []bool{c.d.Records != 0 || c.d.Size != 0, c.from != "", c.records != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return cost.Pattern{}, e.misused("say one of -rate and -size, -from, -records")
	}
	switch {
	case c.from != "":
		b, err := os.ReadFile(c.from)
		if err != nil {
			return cost.Pattern{}, err
		}
		return reportPattern(b, c.result)
	case c.records == "-":
		return recordsPattern(e.stdin, c.key)
	case c.records != "":
		f, err := os.Open(c.records)
		if err != nil {
			return cost.Pattern{}, err
		}
		defer f.Close()
		return recordsPattern(f, c.key)
	}
	return cost.Describe(c.d)
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

// recordsPattern reads a record from each line.
func recordsPattern(r io.Reader, key int) (cost.Pattern, error) {
	if key < 0 {
		return cost.Pattern{}, &shardlog.InvalidError{Field: "key", Value: key, Limit: "a field's number from 1 on, or 0"}
	}
	var t cost.Trace
	in := bufio.NewScanner(r)
	in.Buffer(nil, 11<<20)
	for n := 1; in.Scan(); n++ {
		line := bytes.TrimRight(in.Bytes(), "\r")
		if len(line) == 0 {
			continue
		}
		at, ok := lineTime(string(line))
		if !ok {
			return cost.Pattern{}, &shardlog.InvalidError{Field: fmt.Sprintf("line %d", n), Value: string(line), Limit: "a line with a time, as [02/Jan/2006:15:04:05 -0700] or RFC 3339"}
		}
		k := string(line)
		if key > 0 {
			fields := strings.Fields(k)
			if key > len(fields) {
				return cost.Pattern{}, &shardlog.InvalidError{Field: fmt.Sprintf("line %d", n), Value: k, Limit: fmt.Sprintf("a line with %d fields", key)}
			}
			k = fields[key-1]
		}
		if err := t.Add(at, k, int64(len(line)+len(k))); err != nil {
			return cost.Pattern{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := in.Err(); err != nil {
		return cost.Pattern{}, err
	}
	return t.Pattern()
}

// lineTime finds the time in a line.
func lineTime(line string) (time.Time, bool) {
	if _, rest, ok := strings.Cut(line, "["); ok {
		if s, _, ok := strings.Cut(rest, "]"); ok {
			if t, err := time.Parse("02/Jan/2006:15:04:05 -0700", s); err == nil {
				return t, true
			}
		}
	}
	for s := range strings.FieldsSeq(line) {
		if t, err := time.Parse(time.RFC3339, strings.Trim(s, `"[],`)); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
