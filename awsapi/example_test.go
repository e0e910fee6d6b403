package awsapi_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

// Services share a port, accounts, signatures, a clock and faults.
func ExampleNew() {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	kinesis, err := kinesisapi.Service(db, &kinesisapi.Options{DefaultShards: 1})
	if err != nil {
		log.Fatal(err)
	}
	e, err := awsapi.New(&awsapi.Options{Region: "eu-west-1"}, kinesis) // and more services
	if err != nil {
		log.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = e.Server()
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
