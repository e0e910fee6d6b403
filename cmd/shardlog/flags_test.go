package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// flagLine is a line of a command's help that names a flag, and its value unless
// it is a switch.
var flagLine = regexp.MustCompile(`(?m)^  -([a-z0-9-]+)(?: (.+))?$`)

// numeric are values out of the range of every flag with a number or a duration.
var numeric = []string{"-1", "-1s", "NaN", "-Inf", "1e400", "99999999999999999999", "9999999999h", "1x", "1 2", "", " "}

// TestValuesOutOfRange gives every flag of every command values that no flag
// takes, and each flag with a range those next to it. None may be taken for a flag
// that was not given.
func TestValuesOutOfRange(t *testing.T) {
	ranges := map[string][]string{ // values outside, for flags with a number
		"serve -shards-per-stream": {"0", "10001"}, "serve -shard-limit": {"0", "10000001"}, "serve -create-time": {"24h1s", "5"},
		"serve -update-time": {"25h"}, "serve -delete-time": {"25h"}, "serve -drain": {"25h", "10"}, "serve -max-connections": {"0", "1048577"},
		"stream create -shards": {"0", "10001"}, "stream create -retention": {"0", "1", "23", "8761", "9000", "48h"},
		"tail -n": {"1.5"}, "tail -poll": {"0", "0s", "999us", "61m", "1"},
		"cost -rate": {"0", "1e13"}, "cost -size": {"0", "10485761", "1.5"}, "cost -peak": {"0", "0.9", "1e7"}, "cost -hot": {"1.1"},
		"cost -key": {"1000001"}, "cost -headroom": {"0.96", "1"}, "cost -shards": {"0", "100001"}, "cost -readers": {"1001"}, "cost -fanout": {"1001"},
		"cost -retention": {"0", "23", "8761"},
		"bench -count":    {"0", "1001"}, "bench -duration": {"0", "0s", "8761h"}, "bench -records": {"0"}, "bench -warmup": {"8761h"}, "bench -seed": {"0"},
		"bench -size": {"0", "19", "1048321", "lognormal:0", "lognormal:100:0", "lognormal:100:5", "lognormal:100:NaN", "lognormal:100:1:0"},
		"bench -keys": {"uniform:0", "uniform:1048577", "uniform:1.5", "uniform:NaN", "zipf:10:0", "zipf:10:NaN", "hot:10:0", "hot:10:1.5", "lines:0", "lines:-1"},
		"bench -rate": {"2e9"}, "bench -producers": {"0", "4097"}, "bench -batch": {"0", "10001"}, "bench -linger": {"0", "61s"}, "bench -window": {"0"},
		"bench -shards": {"0", "10001"}, "bench -consumers": {"1001"}, "bench -workers": {"0", "1001"}, "bench -poll": {"0", "2h"}, "bench -drain": {"0", "8761h"},
	}
	dir := filepath.Join(t.TempDir(), "none")
	for _, c := range commands {
		help := mustCLI(t, "", append([]string{"help"}, strings.Fields(c.words)...)...)
		for _, m := range flagLine.FindAllStringSubmatch(help, -1) {
			name, value := m[1], m[2]
			if value == "" {
				continue // a switch
			}
			bad := []string{""}
			if more, ok := ranges[c.words+" -"+name]; ok {
				if bad = append(bad, more...); name != "keys" && name != "size" {
					bad = append(bad, numeric...)
				}
				delete(ranges, c.words+" -"+name)
			}
			for _, v := range bad {
				args := append(strings.Fields(c.words), "-"+name, v)
				if name != "dir" && strings.Contains(help, "  -dir ") {
					args = append(args, "-dir", dir)
				}
				code, out, errs := cli(t, "", args...)
				require.Equal(t, exitUsage, code, "%q: %s", args, errs)
				require.Empty(t, out)
				require.Regexp(t, "flag -"+name+": .*(must|not of that form|not a)", errs)
				require.Equal(t, 1, strings.Count(errs, "\n"), "the message is a line, and not all of the help")
			}
		}
	}
	require.Empty(t, ranges, "flags that there are not")
	require.NoDirExists(t, dir)
}

// Zero is a value where the help says what it means.
func TestZeros(t *testing.T) {
	mustCLI(t, "", "cost", "-rate", "1", "-size", "1", "-headroom", "0", "-readers", "0", "-fanout", "0", "-hot", "0")
	dir := t.TempDir()
	mustCLI(t, "", "stream", "create", "s", "-dir", dir)
	mustCLI(t, "a\nb\n", "put", "s", "-dir", dir)
	require.Equal(t, "a\nb\n", mustCLI(t, "", "tail", "s", "-n", "0", "-dir", dir))
}

func TestMisusedTogether(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"stream create a -on-demand -shards 2", "-on-demand and -shards exclude each other"},
		{"stream create a/b", `"a/b" is no name of a stream`},
		{"stream list -dir x -endpoint http://localhost", "-dir and -endpoint exclude each other"},
		{"stream list -dir x -insecure", "-dir and -insecure exclude each other"},
		{"stream list -insecure -cacert x", "-insecure and -cacert exclude each other"},
		{"stream list -endpoint localhost:4567", `-endpoint "localhost:4567": must be a URL`},
		{"put s -key k -hash-key 340282366920938463463374607431768211456", "flag -hash-key"},
		{"put s -hash-key -1", "flag -hash-key"},
		{"put s -key " + strings.Repeat("k", 257), "flag -key"},
		{"put s a b", "expected NAME and optionally DATA"},
		{"stream split s 0 -at x", "flag -at"},
		{"serve -tls -tls-addr 127.0.0.1:0", "exclude each other"},
		{"serve -save-cert x", "-save-cert is for the certificate"},
		{"serve -account 12", "invalid Options.Account"},
		{"cost -from x -hot 0.5", "-hot does not go with"},
	} {
		code, out, errs := cli(t, "", strings.Fields(c.line)...)
		require.Equal(t, exitUsage, code, "%s: %s", c.line, errs)
		require.Empty(t, out)
		require.Contains(t, errs, c.says)
	}
}
