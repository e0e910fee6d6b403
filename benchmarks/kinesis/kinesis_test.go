package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/benchmarks/patterns"
	"github.com/shardlog/shardlog/kinesistest"
	"github.com/shardlog/shardlog/stream"
)

// clean removes the settings for AWS from the environment of a test.
func clean(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
}

// cli runs a command line.
func cli(t *testing.T, args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

// results runs a command line and returns its report.
func results(t *testing.T, args ...string) []patterns.Result {
	code, out, errs := cli(t, append(args, "-json", "-", "-quiet")...)
	require.Equal(t, 0, code, errs)
	var rep patterns.Report
	require.NoError(t, json.Unmarshal([]byte(out), &rep))
	return rep.Results
}

// TestModes runs workloads in every mode of putting and reading. The endpoint
// stores each record once and in order as long as nothing is refused.
func TestModes(t *testing.T) {
	clean(t)
	srv := kinesistest.NewServer(t, nil)
	for name, args := range map[string][]string{
		"poll, async":       {"-mode", "poll", "-consumers", "2", "-rate", "0", "clickstream"},
		"fan-out, batch":    {"-put", "batch", "-rate", "0", "fan-out"},
		"group, aggregated": {"-rate", "0", "iot-telemetry"},
		"poll, single":      {"-consumers", "1", "-mode", "poll", "single-put"},
		"large":             {"-mode", "poll", "-records", "40", "large-records"},
	} {
		t.Run(name, func(t *testing.T) {
			if args[len(args)-1] != "large-records" {
				args = append([]string{"-records", "300"}, args...)
			}
			res := results(t, append([]string{"-endpoint", srv.URL, "-poll", "5ms"}, args...)...)
			require.Len(t, res, 1)
			r := res[0]
			want := r.Workload.Records
			require.Equal(t, patterns.Check{Acked: want, Delivered: want}, r.Check)
			require.Equal(t, "Kinesis endpoint "+srv.URL, r.Target)
			require.Nil(t, r.Disk)
			require.Empty(t, r.Workload.Sync)
			require.Len(t, r.Shards, r.Workload.Shards)
			require.Equal(t, want*int64(r.Workload.Consumers.Count), r.Delivery.Count)
			var stored int64
			for _, s := range r.Shards {
				stored += s.Records
			}
			require.Equal(t, r.Stored.Records, stored)
			if r.Workload.Aggregate {
				require.Less(t, stored, want)
			} else {
				require.Equal(t, want, stored)
			}
			left, err := srv.DB.Streams(t.Context())
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// TestThrottles checks that refusals are counted, and that every record is stored
// in the end.
func TestThrottles(t *testing.T) {
	clean(t)
	srv := kinesistest.NewServer(t, &kinesistest.Options{API: &kinesisapi.Options{Limits: stream.KinesisLimits()}})
	res := results(t, "-endpoint", srv.URL, "-records", "1500", "-size", "100", "-batch", "500", "-consumers", "1", "-mode", "poll", "-poll", "250ms")
	r := res[0]
	require.Positive(t, r.Throttled)
	require.EqualValues(t, 1500, r.Check.Acked)
	require.EqualValues(t, 1500, r.Check.Delivered)
	require.Zero(t, r.Check.Duplicates)
	require.Zero(t, r.Failed)
}

func TestCommandLine(t *testing.T) {
	clean(t)
	srv := kinesistest.NewServer(t, nil)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-h"}, 0, "Usage: kinesis"},
		{[]string{"-unknown"}, 2, "flag provided but not defined"},
		{[]string{"no-such"}, 2, "must be one of"},
		{[]string{"-batch", "501"}, 2, "at most 500 for Kinesis"},
		{[]string{"-memory"}, 2, "invalid memory"},
		{[]string{"-compression", "s2"}, 2, "invalid compression"},
		{[]string{"-consumers", "1"}, 2, "no reads that wait"},
		{[]string{"-prefix", "not allowed/"}, 1, "ValidationException"},
		{[]string{"-prefix", ""}, 2, "flag -prefix: must not be empty"},
		{[]string{"-region", ""}, 2, "flag -region: must not be empty"},
		{[]string{"-endpoint", ""}, 2, "flag -endpoint: must not be empty"},
		{[]string{"-endpoint", "127.0.0.1:4567"}, 2, "must be a URL such as"},
	} {
		code, _, errs := cli(t, append([]string{"-endpoint", srv.URL, "-records", "1"}, c.args...)...)
		require.Equal(t, c.code, code, "%v: %s", c.args, errs)
		require.Contains(t, errs, c.want)
	}
	down := httptest.NewServer(nil)
	down.Close()
	code, _, errs := cli(t, "-endpoint", down.URL, "-records", "1")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "connection refused")
}

// TestErrors checks that errors of the endpoint match those of package shardlog.
func TestErrors(t *testing.T) {
	clean(t)
	srv := kinesistest.NewServer(t, nil)
	tg := &target{endpoint: srv.URL, prefix: "x-"}
	require.NoError(t, tg.connect(t.Context()))
	w, err := patterns.Workload{Shards: 2}.WithDefaults()
	require.NoError(t, err)
	opened, err := tg.Open(t.Context(), &w)
	require.NoError(t, err)
	l := opened.(*log)

	// Calls with more records than a request may have, and what is stored of
	// them.
	records := make([]shardlog.Record, 1201)
	for i := range records {
		records[i] = shardlog.Record{PartitionKey: "k", Data: []byte{byte(i), byte(i >> 8)}}
	}
	res, err := l.PutRecords(t.Context(), records)
	require.NoError(t, err)
	require.Len(t, res, 1201)
	for i := range res {
		require.NoError(t, res[i].Err)
	}
	page, err := l.Read(t.Context(), shardlog.ReadRequest{ShardID: res[0].ShardID, From: shardlog.At(res[1].Sequence), MaxRecords: 3})
	require.NoError(t, err)
	require.Equal(t, []byte{1, 0}, page.Records[0].Data)
	require.Equal(t, shardlog.After(res[3].Sequence), page.Next)
	page, err = l.Read(t.Context(), shardlog.ReadRequest{ShardID: res[0].ShardID, From: page.Next, MaxRecords: 1})
	require.NoError(t, err)
	require.Equal(t, []byte{4, 0}, page.Records[0].Data)
	page, err = l.Read(t.Context(), shardlog.ReadRequest{ShardID: res[0].ShardID, From: shardlog.AfterSub(res[5].Sequence, 0), MaxRecords: 1})
	require.NoError(t, err)
	require.Equal(t, res[5].Sequence, page.Records[0].Sequence, "the reader leaves out what it has")
	page, err = l.Read(t.Context(), shardlog.ReadRequest{ShardID: res[0].ShardID, From: shardlog.AtTime(time.Now().Add(-time.Hour)), MaxRecords: 1})
	require.NoError(t, err)
	require.Equal(t, res[0].Sequence, page.Records[0].Sequence)
	_, err = l.Read(t.Context(), shardlog.ReadRequest{ShardID: res[0].ShardID, From: shardlog.Latest()})
	require.ErrorIs(t, err, shardlog.ErrUnsupported)

	shards, err := l.Shards(t.Context())
	require.NoError(t, err)
	st, err := srv.DB.Stream(t.Context(), *l.name)
	require.NoError(t, err)
	want, err := st.Shards(t.Context())
	require.NoError(t, err)
	for i := range want {
		want[i].Created, want[i].Parents = time.Time{}, nil
	}
	require.Equal(t, want, shards)

	require.NoError(t, st.SetLimits(t.Context(), stream.Limits{WriteRecords: 1}))
	_, _ = l.PutRecords(t.Context(), records[:1])
	_, err = l.PutRecords(t.Context(), records[:1])
	require.ErrorIs(t, err, shardlog.ErrThroughputExceeded)
	require.True(t, shardlog.Retryable(err))
	res, err = l.PutRecords(t.Context(), records[:2])
	require.NoError(t, err)
	require.ErrorIs(t, res[0].Err, shardlog.ErrThroughputExceeded)

	require.NoError(t, l.Close())
	_, err = l.PutRecords(t.Context(), records[:2])
	require.Error(t, err)
	require.False(t, shardlog.Retryable(err))
	srv.Close()
	_, err = l.PutRecords(t.Context(), records[:1])
	require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
}
