package awstest_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/shardlog/shardlog/awsapi/awstest"
)

// testServices stands for a test of yours; tb is its *testing.T.
func testServices(tb testing.TB) {
	srv := awstest.NewServer(tb, nil)
	// Give srv.URL and srv.Client() to clients of any of the services.
	res, err := srv.Client().Get(srv.URL + "/_shardlog/ready")
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	fmt.Println(res.StatusCode == http.StatusOK)
}

// Every service on one URL, for one test.
func ExampleNewServer() {
	var tb exampleTB // in a test: t
	testServices(&tb)
	tb.end()
	// Output: true
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
