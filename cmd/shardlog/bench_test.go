package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBench(t *testing.T) {
	dir := t.TempDir()
	require.Contains(t, mustCLI(t, "", "bench", "list"), "iot-telemetry ")
	require.Contains(t, mustCLI(t, "", "bench", "show", "hot-key"), "hotShare: 0.8")
	a, b, page := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json"), filepath.Join(dir, "page.html")
	for _, file := range []string{a, b} {
		out := mustCLI(t, "", "bench", "clickstream", "batched", "-records", "300", "-rate", "0", "-quiet", "-dir", dir, "-json", file)
		require.Contains(t, out, "clickstream on in-process stream")
		require.Equal(t, 2, strings.Count(out, "300 records acknowledged"))
	}
	require.Contains(t, mustCLI(t, "", "bench", "compare", a, b, "-html", page), "Too few runs")
	require.Contains(t, mustCLI(t, "", "bench", "compare", a, b, "-json"), `"verdict": "too few"`)
	data, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(data), "<h2>clickstream</h2>")
	for _, r := range []string{"4", "8"} { // a and b, then both again
		both := filepath.Join(dir, "both.json")
		args := []string{"bench", "merge", both, a, b}
		if r == "8" {
			args = append(args, both)
		}
		require.Empty(t, mustCLI(t, "", args...))
		data, err := os.ReadFile(both)
		require.NoError(t, err)
		require.Equal(t, r, fmt.Sprint(strings.Count(string(data), `"started"`)))
	}
	left, err := filepath.Glob(filepath.Join(dir, "shardlog-bench-*"))
	require.NoError(t, err)
	require.Empty(t, left)

	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"bench", "no-such"}, exitUsage, "must be one of"},
		{[]string{"bench", "-shards", "-1"}, exitUsage, "flag -shards: must be a whole number from 1 to 10000"},
		{[]string{"bench", "-keys", "odd"}, exitUsage, "invalid keys.kind"},
		{[]string{"bench", "-rate", "x"}, exitUsage, "flag -rate: must be a number from 0 to 1e9"},
		{[]string{"bench", "show"}, exitUsage, "expected 1 arguments"},
		{[]string{"bench", "show", "x"}, exitUsage, "must be one of"},
		{[]string{"bench", "list", "x"}, exitUsage, "takes no arguments"},
		{[]string{"bench", "merge", a}, exitUsage, "one or more reports"},
		{[]string{"bench", "merge", filepath.Join(dir, "x"), page}, exitFail, "page.html: invalid argument: report"},
		{[]string{"bench", "compare", a}, exitUsage, "two or more reports"},
		{[]string{"bench", "compare", a, filepath.Join(dir, "none")}, exitFail, "no such file"},
		{[]string{"bench", "-records", "1", "-dir", filepath.Join(dir, "none")}, exitFail, "no such file"},
		{[]string{"bench", "-records", "1", "-dir", ""}, exitUsage, "flag -dir: must not be empty"},
		{[]string{"bench", "-records", "1", "-json", filepath.Join(dir, "none", "a.json")}, exitFail, "no such file"},
	} {
		code, _, errs := cli(t, "", c.args...)
		require.Equal(t, c.code, code, "%v: %s", c.args, errs)
		require.Contains(t, errs, c.want)
	}
}
