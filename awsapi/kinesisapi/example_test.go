package kinesisapi_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

// newHandler opens what the examples serve.
func newHandler() (*kinesisapi.Handler, func()) {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	h, err := kinesisapi.NewHandler(db, &kinesisapi.Options{DefaultShards: 1})
	if err != nil {
		log.Fatal(err)
	}
	return h, func() {
		_ = h.Close()
		_ = db.Close()
	}
}

// A handler is served by any server; that of its Server method has bounds and
// speaks HTTP/2 without TLS, as the SDKs for Java and JavaScript do.
func ExampleHandler_Server() {
	h, done := newHandler()
	defer done()
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = h.Server()
	srv.Start()
	defer srv.Close()
	res, err := http.Get(srv.URL + "/_shardlog/ready")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	fmt.Println(res.StatusCode)
	// Output: 200
}
