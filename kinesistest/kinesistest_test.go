package kinesistest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/internal/leaktest"
	"github.com/shardlog/shardlog/kinesistest"
	"github.com/shardlog/shardlog/stream"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// call makes a request as an SDK does.
func call(t testing.TB, srv *kinesistest.Server, op, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	r.Header.Set("X-Amz-Date", "20260101T000000Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00")
	res, err := srv.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, 200, res.StatusCode, string(b))
	return string(b)
}

func TestServers(t *testing.T) {
	for name, opts := range map[string]*kinesistest.Options{
		"default": nil, "tls": {TLS: true}, "in memory": {InMemory: true}, "in memory with tls": {InMemory: true, TLS: true},
		"streams": {Streams: map[string]int{"there": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := kinesistest.NewServer(t, opts)
			call(t, srv, "CreateStream", `{"StreamName":"s","ShardCount":1}`)
			call(t, srv, "PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"eA=="}`)
			st, err := srv.DB.Stream(t.Context(), "s")
			require.NoError(t, err)
			require.EqualValues(t, 1, st.Stats().Shards[0].Records)
			if name == "streams" {
				require.Contains(t, call(t, srv, "DescribeStreamSummary", `{"StreamName":"there"}`), `"OpenShardCount":3`)
			}
			res, err := srv.Client().Get(srv.URL + "/_shardlog/health")
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, 200, res.StatusCode)
			srv.Close()
			srv.Close()
			_, err = srv.Client().Get(srv.URL)
			require.Error(t, err)
			_, err = srv.DB.Stream(t.Context(), "s")
			require.NoError(t, err, "the database lasts as long as the test")
		})
	}
}

func TestOwnDatabase(t *testing.T) {
	db, err := stream.Open(t.TempDir(), nil)
	require.NoError(t, err)
	defer db.Close()
	t.Run("server", func(t *testing.T) {
		srv := kinesistest.NewServer(t, &kinesistest.Options{DB: db, API: &kinesisapi.Options{Account: testAccount}})
		require.Contains(t, call(t, srv, "RegisterStreamConsumer", createdFirst(t, srv)), testAccount)
	})
	_, err = db.Stream(t.Context(), "s")
	require.NoError(t, err)
}

const testAccount = "999999999999"

func createdFirst(t *testing.T, srv *kinesistest.Server) string {
	call(t, srv, "CreateStream", `{"StreamName":"s","ShardCount":1}`)
	return `{"StreamARN":"arn:aws:kinesis:us-east-1:999999999999:stream/s","ConsumerName":"c"}`
}

func TestFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := kinesistest.NewServer(t, &kinesistest.Options{InMemory: true, Streams: map[string]int{"s": 1}})
		call(t, srv, "PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"eA=="}`)
		time.Sleep(25 * time.Hour) // longer than the retention
		synctest.Wait()
		st, err := srv.DB.Stream(t.Context(), "s")
		require.NoError(t, err)
		require.Zero(t, st.Stats().Shards[0].Records)
		srv.Client().CloseIdleConnections()
	})
}

// A server starts in less than five milliseconds. The best of several counts:
// others use the machine too.
func TestStartIsQuick(t *testing.T) {
	best := time.Hour
	for range 20 {
		began := time.Now()
		srv := kinesistest.NewServer(t, nil)
		best = min(best, time.Since(began))
		srv.Close()
	}
	t.Logf("best of 20: %v", best)
	require.Less(t, best, 5*time.Millisecond)
}

func BenchmarkNewServer(b *testing.B) {
	for b.Loop() {
		kinesistest.NewServer(b, nil).Close()
	}
}
