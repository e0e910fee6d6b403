package benchcmd

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/benchmarks/patterns"
)

// parse reads a command line.
func parse(t *testing.T, args ...string) (*Flags, []string, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	b := Register(f)
	names, err := Parse(f, args)
	return b, names, err
}

// workload returns the workload that a command line describes.
func workload(t *testing.T, args ...string) patterns.Workload {
	b, names, err := parse(t, args...)
	require.NoError(t, err)
	all, err := b.workloads(names, os.ReadFile)
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0]
}

func TestEveryFlag(t *testing.T) {
	w := workload(t, "-name", "n", "-duration", "3s", "-warmup", "1s", "-seed", "5", "-size", "lognormal:400:0.7:5000", "-keys", "zipf:100:1.5",
		"-rate", "2e3", "-poisson", "-producers", "3", "-put", "async", "-batch", "100", "-linger", "5ms", "-window", "50", "-aggregate",
		"-shards", "4", "-sync", "never", "-memory", "-compression", "zstd", "-limits", "kinesis",
		"-consumers", "2", "-mode", "group", "-workers", "3", "-drain", "1m")
	require.Equal(t, patterns.Workload{
		Name: "n", Duration: patterns.Duration(3 * time.Second), WarmUp: patterns.Duration(time.Second), Seed: 5,
		Sizes: patterns.Sizes{Kind: "lognormal", Bytes: 400, Sigma: 0.7, Max: 5000}, Keys: patterns.Keys{Kind: "zipf", Count: 100, Exponent: 1.5},
		Rate: 2000, Poisson: true, Producers: 3, Put: "async", Batch: 100, Linger: patterns.Duration(5 * time.Millisecond), Window: 50, Aggregate: true,
		Shards: 4, Sync: "never", Memory: true, Compression: "zstd", Limits: "kinesis",
		Consumers: patterns.Consumers{Count: 2, Mode: "group", Workers: 3}, Drain: patterns.Duration(time.Minute),
	}, w)
	w = workload(t, "-size", "100", "-keys", "hot:20:0.9", "-records", "7", "-consumers", "1", "-mode", "poll", "-poll", "3ms")
	require.Equal(t, patterns.Sizes{Kind: "fixed", Bytes: 100}, w.Sizes)
	require.Equal(t, patterns.Keys{Kind: "hot", Count: 20, HotShare: 0.9}, w.Keys)
	require.EqualValues(t, 7, w.Records)
	require.Equal(t, patterns.Duration(3*time.Millisecond), w.Consumers.PollEvery)
	w = workload(t, "-lines", "file", "-keys", "lines:3")
	require.Equal(t, patterns.Keys{Kind: "lines", Field: 3}, w.Keys)
	require.Equal(t, patterns.SizeLines, w.Sizes.Kind)
}

// TestFlagsChangeNamedWorkloads changes fields of built-in workloads that would
// contradict others if those stayed as they are.
func TestFlagsChangeNamedWorkloads(t *testing.T) {
	w := workload(t, "-records", "10", "-rate", "0", "-put", "single", "iot-telemetry")
	require.Equal(t, "iot-telemetry", w.Name)
	require.Zero(t, w.WarmUp)
	require.False(t, w.Poisson)
	require.False(t, w.Aggregate)
	require.Equal(t, 1, w.Batch)
	w = workload(t, "single-put", "-put", "batch")
	require.Equal(t, 500, w.Batch)
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-rate", "x"}, {"-size", "lognormal:x"}, {"-size", "lognormal:1:2:3:4"}, {"-keys", "hot:1:2:3"}, {"-keys", "zipf:x"}, {"-shards", "1.5"},
		{"-duration", "5"}, {"-poisson=maybe"}, {"-unknown"}, {"-size", "5"}, {"-count", "0"},
	} {
		_, _, err := parse(t, args...)
		require.Error(t, err, args)
	}
	for _, args := range [][]string{
		{"-keys", "odd:5"}, {"no-such-workload"}, {"-aggregate"}, {"-put", "x"},
	} {
		b, names, err := parse(t, args...)
		require.NoError(t, err)
		err = b.Run(t.Context(), &patterns.InProcess{}, names, io.Discard, io.Discard)
		require.ErrorIs(t, err, shardlog.ErrInvalid, args)
	}
}

// run runs a command line.
func run(t *testing.T, args ...string) (stdout, stderr string) {
	b, names, err := parse(t, args...)
	require.NoError(t, err)
	var out, errs strings.Builder
	require.NoError(t, b.Run(t.Context(), &patterns.InProcess{}, names, &out, &errs))
	return out.String(), errs.String()
}

func TestRunAndCompare(t *testing.T) {
	dir := t.TempDir()
	yaml, a, b := filepath.Join(dir, "w.yaml"), filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	require.NoError(t, os.WriteFile(yaml, []byte("name: mine\nshards: 2\nmemory: true\nconsumers: {count: 1}\n"), 0o600))
	common := []string{"-records", "200", "-count", "2", "-memory", "-f", yaml}
	text, progress := run(t, append(common, "-json", a, "-html", filepath.Join(dir, "a.html"), "batched")...)
	require.Contains(t, text, "mine on in-process stream")
	require.Contains(t, text, "200 records acknowledged, all delivered, once and in order")
	require.Equal(t, 2, strings.Count(text, "batched on"))
	require.Contains(t, progress, "mine draining")
	run(t, append(common, "-json", b, "-quiet", "-cpuprofile", filepath.Join(dir, "cpu"))...)
	profile, err := os.Stat(filepath.Join(dir, "cpu"))
	require.NoError(t, err)
	require.Positive(t, profile.Size())

	var rep patterns.Report
	data, err := os.ReadFile(a)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &rep))
	require.Equal(t, []string{"batched", "mine", "batched", "mine"}, []string{rep.Results[0].Workload.Name, rep.Results[1].Workload.Name, rep.Results[2].Workload.Name, rep.Results[3].Workload.Name})

	page, err := os.ReadFile(filepath.Join(dir, "a.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "<h2>mine</h2>")

	var out strings.Builder
	require.NoError(t, Compare([]string{a, b}, false, filepath.Join(dir, "ab.html"), &out))
	require.Regexp(t, `mine on in-process stream +a +b\n`, out.String())
	out.Reset()
	require.NoError(t, Compare([]string{a, b}, true, "", &out))
	var rows []patterns.Row
	require.NoError(t, json.Unmarshal([]byte(out.String()), &rows))
	require.NotEmpty(t, rows)
	require.NoError(t, Compare([]string{a}, false, filepath.Join(dir, "one.html"), io.Discard))

	require.ErrorIs(t, Compare([]string{a}, false, "", io.Discard), shardlog.ErrInvalid)
	require.ErrorIs(t, Compare([]string{a, yaml}, false, "", io.Discard), shardlog.ErrInvalid)
	require.ErrorIs(t, Compare([]string{a, "none"}, false, "", io.Discard), os.ErrNotExist)
	require.Error(t, Compare([]string{a, b}, false, filepath.Join(dir, "none", "x.html"), io.Discard))

	js, _ := run(t, "-records", "10", "-memory", "-quiet", "-json", "-")
	require.NoError(t, json.Unmarshal([]byte(js), &rep))
}

// losing is a target whose logs acknowledge records that they do not store.
type losing struct{ patterns.InProcess }

// Open implements patterns.Target.
func (l *losing) Open(ctx context.Context, w *patterns.Workload) (patterns.Log, error) {
	log, err := l.InProcess.Open(ctx, w)
	return &losingLog{Log: log}, err
}

type losingLog struct {
	patterns.Log
	calls int
}

// Capabilities returns those of the log that it wraps.
func (l *losingLog) Capabilities() shardlog.Capabilities { return shardlog.CapabilitiesOf(l.Log) }

// PutRecords acknowledges the last record of the second call without storing it.
func (l *losingLog) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if l.calls++; l.calls != 2 {
		return l.Log.PutRecords(ctx, records)
	}
	res, err := l.Log.PutRecords(ctx, records[:len(records)-1])
	return append(res, shardlog.PutResult{ShardID: "shardId-000000000000"}), err
}

// TestLossIsAnError checks that the check can fail.
func TestLossIsAnError(t *testing.T) {
	b, names, err := parse(t, "-records", "100", "-batch", "10", "-memory", "-quiet", "-consumers", "1", "-drain", "50ms")
	require.NoError(t, err)
	var out strings.Builder
	err = b.Run(t.Context(), &losing{}, names, &out, io.Discard)
	require.EqualError(t, err, "workload custom: 1 records missing")
	require.Contains(t, out.String(), "1 RECORDS MISSING")
}

func TestListAndShow(t *testing.T) {
	var out strings.Builder
	require.NoError(t, List(&out))
	require.Equal(t, len(patterns.Ready()), strings.Count(out.String(), "\n"))
	require.Contains(t, out.String(), "clickstream ")
	out.Reset()
	require.NoError(t, Show(&out, "hot-key"))
	w, err := patterns.Parse([]byte(out.String()))
	require.NoError(t, err)
	require.Equal(t, "hot-key", w.Name)
	require.ErrorIs(t, Show(&out, "x"), shardlog.ErrInvalid)
}

// TestInterrupted checks that a run that is interrupted reports what it has
// measured.
func TestInterrupted(t *testing.T) {
	b, names, err := parse(t, "-duration", "1h", "-rate", "1000", "-memory", "-count", "5", "-linger", "1ms")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	require.NoError(t, b.Run(ctx, &patterns.InProcess{}, names, &out, cancelAfter{cancel}))
	require.Equal(t, 1, strings.Count(out.String(), "custom on"))
}

// cancelAfter is a writer that cancels a context at the first line of progress.
type cancelAfter struct{ cancel func() }

// Write implements io.Writer.
func (c cancelAfter) Write(b []byte) (int, error) {
	c.cancel()
	return len(b), nil
}

// A run that fails leaves the report of those before it, and a report that was
// there stays until there is a new one.
func TestWhatAFailedRunLeaves(t *testing.T) {
	dir := t.TempDir()
	report := filepath.Join(dir, "r.json")
	require.NoError(t, os.WriteFile(report, []byte("old"), 0o600))
	lines := filepath.Join(dir, "lines")
	require.NoError(t, os.WriteFile(lines, []byte("\n\n"), 0o600))
	yaml := filepath.Join(dir, "w.yaml")
	require.NoError(t, os.WriteFile(yaml, []byte("name: bad\nmemory: true\nrecords: 5\nlines: "+lines+"\nkeys: {kind: lines}\n"), 0o600))

	b, names, err := parse(t, "-quiet", "-f", yaml, "-json", report)
	require.NoError(t, err)
	var file *FileError
	require.ErrorAs(t, b.Run(t.Context(), &patterns.InProcess{}, names, io.Discard, io.Discard), &file)
	require.Equal(t, lines, file.Path)
	left, err := os.ReadFile(report)
	require.NoError(t, err)
	require.Equal(t, "old", string(left))

	b, names, err = parse(t, "-quiet", "-memory", "-records", "20", "-f", yaml, "-json", report, "batched")
	require.NoError(t, err)
	require.ErrorContains(t, b.Run(t.Context(), &patterns.InProcess{}, names, io.Discard, io.Discard), "workload bad")
	rep, err := readFile(report)
	require.NoError(t, err)
	require.Len(t, rep.Results, 1)
	require.Equal(t, "batched", rep.Results[0].Workload.Name)
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, all, 3, "nothing else is left")

	// A file that cannot be written is found before anything is run.
	b, names, err = parse(t, "-quiet", "-records", "20", "-html", filepath.Join(dir, "none", "x.html"))
	require.NoError(t, err)
	require.ErrorIs(t, b.Run(t.Context(), nil, names, io.Discard, io.Discard), os.ErrNotExist)
	b, names, err = parse(t, "-quiet", "-records", "20", "-json", dir)
	require.NoError(t, err)
	require.ErrorContains(t, b.Run(t.Context(), nil, names, io.Discard, io.Discard), "is a directory")
}
