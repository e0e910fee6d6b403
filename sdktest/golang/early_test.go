package golang

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/kinesistest"
	"github.com/shardlog/shardlog/stream"
)

var endpoint = flag.String("endpoint", "", "URL of a server for BenchmarkEarlyAnswers; one of its own if empty")

// onHandler hands requests to a handler, without a network.
type onHandler struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (h onHandler) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	in := r.Clone(r.Context())
	in.RequestURI, in.Host, in.ProtoMajor = r.URL.RequestURI(), r.URL.Host, 1
	h.ServeHTTP(w, in)
	return w.Result(), nil
}

func batch(name string, records int) *kinesis.PutRecordsInput {
	in := &kinesis.PutRecordsInput{StreamName: &name}
	for i := range records {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{Data: make([]byte, 100), PartitionKey: aws.String(fmt.Sprint(i))})
	}
	return in
}

// The endpoint knows this SDK by what it says of itself, and waits before the
// answers that would be too early for it. The clock shows it, which is that of
// a bubble; kinesistest's client has no need of it.
func TestAnswersThatWouldBeTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := kinesistest.NewServer(t, &kinesistest.Options{InMemory: true, Streams: map[string]int{"orders": 1}})
		t.Cleanup(func() { srv.Client().CloseIdleConnections() })
		own := newClient(srv)
		plain := newClient(srv, func(o *kinesis.Options) { o.HTTPClient = &http.Client{Transport: onHandler{srv.Handler}} })
		waited := func(call func()) bool {
			begin := time.Now()
			call()
			return time.Since(begin) > 0
		}
		put := func(c *kinesis.Client, records int) func() {
			return func() { must[*kinesis.PutRecordsOutput](t)(c.PutRecords(t.Context(), batch("orders", records))) }
		}
		require.True(t, waited(put(plain, 300)))
		require.False(t, waited(put(plain, 5)), "a request that is written whole")
		require.False(t, waited(put(own, 300)), "a client that keeps the bodies of requests open")
		it := must[*kinesis.GetShardIteratorOutput](t)(plain.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{
			StreamName: aws.String("orders"), ShardId: aws.String("shardId-000000000000"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon}))
		require.False(t, waited(func() {
			out := must[*kinesis.GetRecordsOutput](t)(plain.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator}))
			require.Len(t, out.Records, 605)
		}), "a small request with a large answer")
	})
}

// BenchmarkEarlyAnswers counts the calls that are carried out and yet fail at
// the SDK with its own HTTP client, because the answer came too early for it:
// "lost" should be 0. Without -endpoint client and server are one process, which
// is kinder than two; so
//
//	shardlog serve -memory
//	go test -run '^$' -bench EarlyAnswers -benchtime 3000x -endpoint http://127.0.0.1:4567
func BenchmarkEarlyAnswers(b *testing.B) {
	url := *endpoint
	if url == "" {
		db := must[*stream.DB](b)(stream.Open("", &stream.Options{InMemory: true}))
		defer db.Close()
		h := must[*kinesisapi.Handler](b)(kinesisapi.NewHandler(db, nil))
		s := httptest.NewServer(h)
		defer s.Close()
		url = s.URL
	}
	for _, conns := range []int{1, 16} {
		b.Run(fmt.Sprint(conns), func(b *testing.B) { earlyAnswers(b, url, conns) })
	}
}

var streamNumber atomic.Int64

func earlyAnswers(b *testing.B, url string, conns int) {
	k := kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: &url, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	name := fmt.Sprintf("early-%d-%d", time.Now().UnixNano(), streamNumber.Add(1))
	must[*kinesis.CreateStreamOutput](b)(k.CreateStream(b.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: aws.Int32(4)}))
	require.NoError(b, kinesis.NewStreamExistsWaiter(k).Wait(b.Context(), &kinesis.DescribeStreamInput{StreamName: &name}, time.Minute))
	defer func() { _, _ = k.DeleteStream(b.Context(), &kinesis.DeleteStreamInput{StreamName: &name}) }()
	in := batch(name, 300)
	var next, lost atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range conns {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if _, err := k.PutRecords(b.Context(), in); err != nil {
					lost.Add(1)
					b.Log(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(lost.Load()), "lost")
}
