package golang

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/kinesistest"
)

// BenchmarkEndpoints measures endpoints with the SDK as client, side by side.
// SHARDLOG_COMPARE names others, such as "kinesalite=http://127.0.0.1:4568";
// compare.sh starts those that can be installed. Where the name begins with
// "ready" the bytes of a request were made before and go to the connection as
// they are, because clients take most of the time.
func BenchmarkEndpoints(b *testing.B) {
	srv := kinesistest.NewServer(b, nil)
	list := "shardlog=" + srv.URL
	if more := os.Getenv("SHARDLOG_COMPARE"); more != "" {
		list += "," + more
	}
	for _, c := range []struct {
		name          string
		records, size int
	}{{"PutRecords-500x100", 500, 100}, {"PutRecords-500x1024", 500, 1024}, {"PutRecord-100", 1, 100}, {"GetRecords-100", 0, 100},
		{"ready-PutRecords-500x1024", 500, 1024}, {"ready-PutRecord-100", 1, 100}} {
		for _, conns := range []int{1, 16} {
			for _, e := range strings.Split(list, ",") {
				name, url, _ := strings.Cut(e, "=")
				b.Run(fmt.Sprintf("%s/%d/%s", c.name, conns, name), func(b *testing.B) { compare(b, url, c.records, c.size, conns, strings.HasPrefix(c.name, "ready")) })
			}
		}
	}
}

var streamNumber atomic.Int64

// ready returns a function that sends one request over and over. It writes the
// bytes of the request, made once, to a connection: even net/http's client
// takes longer than a quick server.
func ready(b *testing.B, url, op string, in any, conns int) func() error {
	body, err := json.Marshal(in)
	require.NoError(b, err)
	host := strings.TrimPrefix(url, "http://")
	request := []byte("POST / HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: Kinesis_20131202." + op +
		"\r\nX-Amz-Date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00" +
		"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + string(body))
	type conn struct {
		net.Conn
		in *bufio.Reader
	}
	idle := make(chan conn, conns)
	for range conns {
		idle <- conn{}
	}
	b.Cleanup(func() {
		for range conns {
			if c := <-idle; c.Conn != nil {
				_ = c.Close()
			}
		}
	})
	return func() (err error) {
		c := <-idle
		again := false
		defer func() {
			if c.Conn != nil && (again || err != nil) {
				_ = c.Close()
				c = conn{}
			}
			idle <- c
		}()
		if c.Conn == nil { // at first, and where a server closes them
			if c.Conn, err = net.Dial("tcp", host); err != nil {
				return err
			}
			c.in = bufio.NewReaderSize(c, 64<<10)
		}
		if _, err := c.Write(request); err != nil {
			return err
		}
		res, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return err
		}
		again = res.Close
		out, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("%s: %s", res.Status, out)
		}
		return errors.Join(err, res.Body.Close())
	}
}

func compare(b *testing.B, url string, records, size, conns int, raw bool) {
	client := &http.Client{Transport: whole{&http.Transport{MaxIdleConnsPerHost: conns}}}
	defer client.CloseIdleConnections()
	k := kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: aws.String(url), HTTPClient: client, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	ctx, name := b.Context(), aws.String(fmt.Sprintf("compare-%d-%d", time.Now().UnixNano(), streamNumber.Add(1)))
	_, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(2)})
	require.NoError(b, err)
	require.NoError(b, kinesis.NewStreamExistsWaiter(k, func(o *kinesis.StreamExistsWaiterOptions) { o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second }).
		Wait(ctx, &kinesis.DescribeStreamInput{StreamName: name}, time.Minute))
	defer func() { _, _ = k.DeleteStream(context.Background(), &kinesis.DeleteStreamInput{StreamName: name}) }()
	data := bytes.Repeat([]byte("x"), size)
	in := &kinesis.PutRecordsInput{StreamName: name}
	for i := range max(records, 500) {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{Data: data, PartitionKey: aws.String(fmt.Sprintf("key-%012d", i%64))})
	}
	call := func() (int, error) {
		if records == 1 {
			_, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: name, Data: data, PartitionKey: aws.String("key-000000000001")})
			return 1, err
		}
		out, err := k.PutRecords(ctx, in)
		if err == nil && *out.FailedRecordCount > 0 {
			err = fmt.Errorf("%d records failed", *out.FailedRecordCount)
		}
		return records, err
	}
	if raw {
		entries := []map[string]any{}
		for _, r := range in.Records {
			entries = append(entries, map[string]any{"Data": r.Data, "PartitionKey": r.PartitionKey})
		}
		op, body := "PutRecords", map[string]any{"StreamName": name, "Records": entries}
		if records == 1 {
			op, body = "PutRecord", map[string]any{"StreamName": name, "Data": data, "PartitionKey": "key"}
		}
		send := ready(b, url, op, body, conns)
		call = func() (int, error) { return records, send() }
	}
	if records == 0 { // reading
		_, err := k.PutRecords(ctx, in)
		require.NoError(b, err)
		it, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: aws.String("shardId-000000000000"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		require.NoError(b, err)
		call = func() (int, error) {
			out, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator, Limit: aws.Int32(200)})
			if err != nil {
				return 0, err
			}
			return len(out.Records), nil
		}
	}
	var total atomic.Int64
	var wg sync.WaitGroup
	work := make(chan struct{}, conns)
	for range conns {
		wg.Go(func() {
			for range work {
				n, err := call()
				if err != nil {
					b.Error(err)
				}
				total.Add(int64(n))
			}
		})
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64(total.Load())/b.Elapsed().Seconds(), "records/s")
}

// whole does for any server what kinesistest's client does for its own: no call
// is lost to an answer that is too early, and none waits for that.
type whole struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (w whole) RoundTrip(r *http.Request) (*http.Response, error) {
	var buf bytes.Buffer
	if r.Body != nil {
		if _, err := buf.ReadFrom(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	own := r.Clone(r.Context())
	own.Body, own.ContentLength = http.NoBody, int64(buf.Len())
	if buf.Len() > 0 {
		own.Body = readCloser{bytes.NewReader(buf.Bytes())}
	}
	own.Header.Set("User-Agent", "compare")
	return w.Transport.RoundTrip(own)
}

type readCloser struct{ *bytes.Reader }

// Close implements io.Closer.
func (readCloser) Close() error { return nil }
