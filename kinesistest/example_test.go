package kinesistest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/shardlog/shardlog/kinesistest"
)

// testOrders stands for a test of yours; tb is its *testing.T.
func testOrders(tb testing.TB) {
	srv := kinesistest.NewServer(tb, &kinesistest.Options{Streams: map[string]int{"orders": 4}})
	// Give srv.URL and srv.Client() to any AWS SDK. This is what it sends:
	req, err := http.NewRequest(http.MethodPost, srv.URL, bytes.NewReader([]byte(`{"Limit":10}`)))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Kinesis_20131202.ListStreams")
	req.Header.Set("X-Amz-Date", "20260102T150405Z")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260102/us-east-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date, Signature=0")
	res, err := srv.Client().Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	fmt.Println(res.StatusCode, bytes.Contains(body, []byte(`"StreamNames":["orders"]`)))
}

// An endpoint for one test, with streams that exist before the test begins.
func ExampleNewServer() {
	var tb exampleTB // in a test: t
	testOrders(&tb)
	tb.end()
	// Output: 200 true
}

// exampleTB is a testing.TB outside a test.
type exampleTB struct {
	testing.TB
	cleanup []func()
}

func (tb *exampleTB) Helper()                  {}
func (tb *exampleTB) Context() context.Context { return context.Background() }
func (tb *exampleTB) Cleanup(f func())         { tb.cleanup = append(tb.cleanup, f) }
func (tb *exampleTB) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }

func (tb *exampleTB) end() {
	for i := len(tb.cleanup) - 1; i >= 0; i-- {
		tb.cleanup[i]()
	}
}
