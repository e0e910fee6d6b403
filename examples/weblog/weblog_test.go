package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// realLog is a log of 10,000 lines that is not part of the project. The test
// of its facts runs where it is there; the same path is tested with the
// sample otherwise.
const realLog = "../../../shared/data/weblog/access.log"

// runJSON runs the program in this process and returns its summary.
func runJSON(t *testing.T, stdin string, args ...string) summary {
	t.Helper()
	var out, errs bytes.Buffer
	code := mainWith(context.Background(), append(args, "-json"), strings.NewReader(stdin), &out, &errs)
	require.Zero(t, code, errs.String())
	require.Empty(t, errs.String(), "nothing is shown but on a terminal")
	var s summary
	d := json.NewDecoder(&out)
	require.NoError(t, d.Decode(&s))
	require.False(t, d.More(), "one JSON object")
	return s
}

func requireSample(t *testing.T, s summary) {
	t.Helper()
	require.Equal(t, 7, s.Records)
	require.Equal(t, 1, s.Malformed)
	require.Equal(t, map[string]int{"200": 3, "304": 1, "408": 1, "404": 1, "500": 1}, s.Status)
	require.Equal(t, map[string]int{"192.0.2.1": 3, "2001:db8::7": 1, "192.0.2.9": 2, "192.0.2.2": 1}, s.Clients)
	require.Equal(t, map[string]int{"/favicon.ico": 2, "/": 1, "/blog/?q=a%20b": 1, "-": 1, "/form": 1, "/last": 1}, s.Paths)
}

func TestSample(t *testing.T) {
	requireSample(t, runJSON(t, "", "-input", "testdata/sample.log"))
}

func TestRealLogFacts(t *testing.T) {
	if _, err := os.Stat(realLog); err != nil {
		requireSample(t, runJSON(t, "", "-input", "testdata/sample.log"))
		return
	}
	s := runJSON(t, "", "-input", realLog)
	require.Equal(t, 10_000, s.Records)
	require.Equal(t, 4, s.Shards)
	require.Zero(t, s.Malformed)
	require.Equal(t, map[string]int{"200": 9126, "304": 445, "404": 213, "301": 164, "206": 45, "500": 3, "416": 2, "403": 2}, s.Status)
	require.Equal(t, []string{"66.249.73.135"}, top(s.Clients, 1, false))
	require.Equal(t, 482, s.Clients["66.249.73.135"])
	require.Equal(t, []string{"/favicon.ico"}, top(s.Paths, 1, false))
	require.Equal(t, 807, s.Paths["/favicon.ico"])
	sum := 0
	for _, n := range s.PerShard {
		sum += n
	}
	require.Equal(t, 10_000, sum)
}

func TestSecondRunPutsNothingTwice(t *testing.T) {
	dir := t.TempDir()
	sample, err := os.ReadFile("testdata/sample.log")
	require.NoError(t, err)
	requireSample(t, runJSON(t, string(sample), "-input", "-", "-dir", dir))
	s := runJSON(t, string(sample), "-input", "-", "-dir", dir)
	requireSample(t, s)
	require.Equal(t, 7, s.Resumed)
	require.Zero(t, s.Produced.Records)
	// A log that grew is continued.
	more := string(sample) + "\n192.0.2.1 - - [01/Mar/2026:06:01:00 +0000] \"GET /more HTTP/1.1\" 200 1 \"-\" \"x\"\n"
	s = runJSON(t, more, "-input", "-", "-dir", dir, "-shards", "4")
	require.Equal(t, 8, s.Records)
	require.Equal(t, 1, s.Produced.Records)
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	runJSON(t, "", "-records", "500", "-dir", dir)
	for name, c := range map[string]struct {
		code int
		want string
		args []string
	}{
		"unknown flag":      {2, "flag provided but not defined", []string{"-nonsense"}},
		"extra argument":    {2, `unexpected argument "x"`, []string{"x"}},
		"no such file":      {1, "no such file", []string{"-input", filepath.Join(dir, "none")}},
		"other shard count": {1, "Shards is 4, asked for 3", []string{"-records", "500", "-dir", dir, "-shards", "3"}},
		"other input":       {1, "belongs to another input", []string{"-input", "testdata/sample.log", "-dir", dir}},
		"no shards":         {2, "1 to 10000", []string{"-shards", "-1"}},
		"bad durability":    {2, "always, interval or never", []string{"-durability", "sometimes"}},
		"negative records":  {2, "0 or more", []string{"-records", "-1"}},
		"no shards at all":  {2, "1 to 10000", []string{"-shards", "0"}},
		"many shards":       {2, "invalid value", []string{"-shards", "99999999999999999999"}},
		"empty input":       {2, "-input must not be empty", []string{"-input", ""}},
		"empty directory":   {2, "-dir must not be empty", []string{"-dir", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no such file" && runtime.GOOS == "windows" {
				c.want = "cannot find"
			}
			var out, errs bytes.Buffer
			require.Equal(t, c.code, mainWith(context.Background(), c.args, strings.NewReader(""), &out, &errs))
			require.Contains(t, errs.String(), c.want)
			require.Empty(t, out.String())
		})
	}
}

func TestReadableSummary(t *testing.T) {
	var out, errs bytes.Buffer
	require.Zero(t, mainWith(context.Background(), []string{"-input", "testdata/sample.log", "-shards", "2"}, strings.NewReader(""), &out, &errs), errs.String())
	for _, want := range []string{"7 records in 2 shards, 1 malformed", "shardId-000000000001", "busiest clients", "192.0.2.1", "/favicon.ico", "records/s"} {
		require.Contains(t, out.String(), want)
	}
}

func TestEmptyInput(t *testing.T) {
	s := runJSON(t, "", "-input", "-")
	require.Zero(t, s.Records)
	require.Equal(t, 4, s.Shards)
}

// Lines that are none of an access log are counted, wherever they are; if all are,
// it is an error.
func TestMalformedLines(t *testing.T) {
	const good = `192.0.2.1 - - [01/Mar/2026:06:01:00 +0000] "GET /more HTTP/1.1" 200 1`
	for name, odd := range map[string]string{
		"cut off": "192.0.2.1 - - [01/Ma", "no time": "hello", "NUL bytes": strings.Repeat("\x00", 4096) + good, "too long": strings.Repeat("x", maxLine+1),
	} {
		for _, in := range []string{odd + "\n" + good + "\n" + good, good + "\r\n\n" + odd + "\n" + good, good + "\n" + good + "\n" + odd, "\uFEFF" + good + "\n" + good + "\n" + odd + "\n"} {
			s := runJSON(t, in, "-input", "-")
			require.Equal(t, []int{2, 1}, []int{s.Records, s.Malformed}, name)
			require.Equal(t, map[string]int{"192.0.2.1": 2}, s.Clients)
		}
		var out, errs bytes.Buffer
		require.Equal(t, 1, mainWith(t.Context(), []string{"-input", "-"}, strings.NewReader(odd+"\n"+odd), &out, &errs))
		require.Contains(t, errs.String(), "2 lines are malformed")
		require.Empty(t, out.String())
	}
}

func TestInterruptedRunGoesOn(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		time.Sleep(20 * time.Millisecond)
		cancel()
	}()
	var out, errs bytes.Buffer
	code := mainWith(ctx, []string{"-records", "100000", "-dir", dir, "-json"}, nil, &out, &errs)
	require.Equal(t, 1, code)
	require.Contains(t, errs.String(), "interrupted")
	s := runJSON(t, "", "-records", "100000", "-dir", dir)
	require.Equal(t, 100_000, s.Records)
}

// TestKilledRunsEndWithExactCounts kills the program at random moments, each
// time on the same directory, and compares the last run with an undisturbed
// one.
func TestKilledRunsEndWithExactCounts(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "weblog.exe")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	args := []string{"-records", "60000", "-seed", "3", "-dir", dir, "-json"}
	killed := 0
	for range 6 {
		cmd := exec.Command(bin, args...)
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(10+rnd.IntN(250)) * time.Millisecond)
		if cmd.Process.Kill() == nil {
			killed++
		}
		_ = cmd.Wait()
	}
	require.Positive(t, killed)
	var got summary
	b, err := exec.Command(bin, args...).Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &got))
	want := runJSON(t, "", "-records", "60000", "-seed", "3")
	t.Logf("killed %d times; the last run found %d of %d lines", killed, got.Resumed, want.Records)
	for _, s := range []*summary{&got, &want} {
		s.Resumed, s.Produced, s.Consumed = 0, rate{}, rate{}
	}
	require.Equal(t, want, got)
}
