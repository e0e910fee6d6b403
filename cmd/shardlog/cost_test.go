package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/benchmarks/patterns"
	"github.com/shardlog/shardlog/cost"
)

func TestCostDescribed(t *testing.T) {
	out := mustCLI(t, "", "cost", "-rate", "1000", "-size", "500", "-headroom", "0", "-readers", "0")
	require.Contains(t, out, "prices as of "+cost.DefaultPrices().Date)
	require.Contains(t, out, "provisioned: $47.74 a month")
	require.Contains(t, out, "on-demand: $229.70 a month")
	var e cost.Estimate
	require.NoError(t, json.Unmarshal([]byte(mustCLI(t, "", "cost", "-json", "-rate", "1000", "-size", "500")), &e))
	require.Equal(t, 2, e.Need.Shards)
	require.Equal(t, cost.DefaultPrices().Date, e.PricesDate)
}

func TestCostPrices(t *testing.T) {
	printed := mustCLI(t, "", "cost", "-print-prices")
	file := filepath.Join(t.TempDir(), "prices.json")
	require.NoError(t, os.WriteFile(file, []byte(strings.NewReplacer("0.015", "0.03", cost.DefaultPrices().Date, "2031-02-03").Replace(printed)), 0o600))
	out := mustCLI(t, "", "cost", "-rate", "1000", "-size", "500", "-headroom", "0", "-prices", file)
	require.Contains(t, out, "prices as of 2031-02-03")
	require.Contains(t, out, "$21.90")
	require.NoError(t, os.WriteFile(file, []byte("{}"), 0o600))
	code, _, errs := cli(t, "", "cost", "-rate", "1", "-size", "1", "-prices", file)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "prices: format")
}

func TestCostRecords(t *testing.T) {
	lines := strings.Repeat(`10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1`+"\n", 1500) +
		`10.0.0.2 - - [17/May/2015:10:05:22 +0000] "GET / HTTP/1.1" 200 1` + "\r\n\n"
	out := mustCLI(t, lines, "cost", "-records", "-")
	require.Contains(t, out, `"10.0.0.1" fills 1.50 of a shard`)
	require.Contains(t, out, "risk of throttling: always")
	require.Contains(t, mustCLI(t, `{"at": "2026-01-02T03:04:05.5Z", "x": 1}`, "cost", "-records", "-", "-key", "0"), "1 records")
	for _, bad := range []string{"", "no time\n", "[17/May/2015]\n"} {
		code, _, errs := cli(t, bad, "cost", "-records", "-")
		require.Equal(t, exitFail, code, bad)
		require.Contains(t, errs, "invalid")
	}
	code, _, errs := cli(t, "2026-01-02T03:04:05Z a\n", "cost", "-records", "-", "-key", "3")
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "line 1, which has no field 3")
}

// Lines that are no records are left out, counted and reported, wherever they
// are; if all are, it is an error.
func TestCostOfMalformedRecords(t *testing.T) {
	const good = `203.0.113.9 - - [25/Jun/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 512`
	long := strings.Repeat("x", 200<<10)
	for name, c := range map[string]struct {
		odd, says string // what it says of the odd line, "" if it is a record
	}{
		"cut off":             {"203.0.113.9 - - [25/Ju", "has no time"},
		"no time":             {"hello", "has no time"},
		"no field":            {" ", "has no time"},
		"another bracket":     {`203.0.113.9 - [x] [25/Jun/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 512`, ""},
		"an open bracket":     {`203.0.113.9 - [x [25/Jun/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 512`, ""},
		"NUL bytes":           {strings.Repeat("\x00", 4096) + good, "has NUL bytes"},
		"long":                {good + long, ""},
		"longer than records": {strings.Repeat("x", 11*mib), "is longer than 10485760 bytes"},
		"too long with key":   {good + strings.Repeat("x", 10*mib-len(good)), "has more than 10485760 bytes with its key"},
		"no text":             {"\xff\xfe\x80", "has no time"},
	} {
		t.Run(name, func(t *testing.T) {
			for place, in := range map[string]string{
				"first": c.odd + "\n" + good + "\n" + good, "last": good + "\r\n\r\n" + good + "\n" + c.odd, "middle": good + "\n" + c.odd + "\n" + good + "\n",
			} {
				if len(c.odd) > mib && place != "middle" {
					continue // which takes long
				}
				code, out, errs := cli(t, in, "cost", "-records", "-")
				require.Equal(t, exitOK, code, "%s: %s", place, errs)
				if c.says == "" {
					require.Empty(t, errs)
					require.Contains(t, out, "worst second  3 records")
					continue
				}
				require.Contains(t, out, "worst second  2 records")
				require.Contains(t, errs, "shardlog cost: 1 of 3 lines are malformed and were left out; the first is line ")
				require.Contains(t, errs, c.says)
				require.Contains(t, out, "1 of 3 lines are malformed")
			}
			if c.says != "" {
				code, out, errs := cli(t, c.odd+"\n"+c.odd+"\n", "cost", "-records", "-")
				require.Equal(t, exitFail, code)
				require.Empty(t, out)
				require.Contains(t, errs, "2 of 2 lines are malformed")
			}
		})
	}
	// The mark that some programs begin a text with is no part of the key.
	require.Contains(t, mustCLI(t, "\uFEFF"+strings.Repeat(good+"\n", 1500), "cost", "-records", "-"), `"203.0.113.9" fills 1.50`)
	file := filepath.Join(t.TempDir(), "access.log")
	require.NoError(t, os.WriteFile(file, []byte(good+"\n203.0"), 0o600))
	code, _, errs := cli(t, "", "cost", "-records", file)
	require.Equal(t, exitOK, code)
	require.Contains(t, errs, "line 2")
}

func TestCostFromReport(t *testing.T) {
	r := patterns.Report{Format: patterns.ReportFormat, Version: patterns.ReportVersion, Results: []patterns.Result{{
		Workload: patterns.Workload{Name: "clicks"}, Target: "stream", Seconds: 10,
		Stored: patterns.Stored{Records: 10_000, Bytes: 5_000_000, PutUnits: 10_000, RoundedBytes: 10_240_000, RecordsPerSecond: 1000, BytesPerSecond: 500_000, PutUnitsPerSecond: 1000,
			WorstSecondRecords: 2000, WorstSecondBytes: 1_000_000},
		// Half of the records of the second shard have the hot key.
		Shards: []patterns.ShardLoad{{WorstSecondRecords: 800, WorstSecondBytes: 400_000}, {WorstSecondRecords: 1200, WorstSecondBytes: 600_000}},
		Keys:   []patterns.KeyLoad{{Key: "a", Share: 0.1}},
	}}}
	p, err := reportPattern(must(json.Marshal(r)), "")
	require.NoError(t, err)
	require.InDelta(t, 0.2, p.HotShare, 1e-9) // 0.2 + 0.8/2 = 0.6
	require.InDelta(t, 2000, p.PeakRecords, 0)
	file := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, os.WriteFile(file, must(json.Marshal(r)), 0o600))
	out := mustCLI(t, "", "cost", "-from", file, "-shards", "1", "-readers", "0")
	require.Contains(t, out, "provisioned: $47.74 a month")
	require.Contains(t, out, "measured: clicks on stream, 10 s, 2 shards")
	require.Contains(t, out, "risk of throttling: high")

	r.Results = append(r.Results, r.Results[0])
	r.Results[1].Workload.Name = "other"
	_, err = reportPattern(must(json.Marshal(r)), "")
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	_, err = reportPattern(must(json.Marshal(r)), "other")
	require.NoError(t, err)
	for _, bad := range []string{"", "{}", `{"format":"shardlog-bench","version":1}`, `{"format":"shardlog-bench","version":1,"results":[{}]}`} {
		_, err = reportPattern([]byte(bad), "")
		require.ErrorIs(t, err, shardlog.ErrInvalid, bad)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestCostMisused(t *testing.T) {
	described := []string{"-rate", "1", "-size", "1"}
	for _, args := range [][]string{{}, append(described, "-records", "x"), {"-nonsense"}, {"-rate", "1"}, {"-size", "1"}, append(described, "-run", "x"), {"-records", "-", "-peak", "2"}} {
		code, out, errs := cli(t, "", append([]string{"cost"}, args...)...)
		require.Equal(t, exitUsage, code, args)
		require.Empty(t, out)
		require.NotEmpty(t, errs)
	}
	for _, args := range [][]string{{"-records", "/nonexistent"}, {"-from", "/nonexistent"}, append(described, "-prices", "/nonexistent")} {
		code, out, errs := cli(t, "", append([]string{"cost"}, args...)...)
		require.Equal(t, exitFail, code, args)
		require.Empty(t, out)
		require.Contains(t, errs, "no such file")
	}
}
