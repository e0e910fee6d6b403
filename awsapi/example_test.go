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

// A fault that names a service fails its requests alone.
func ExampleEndpoint_InjectFault() {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	kinesis, err := kinesisapi.Service(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	e, err := awsapi.New(nil, kinesis)
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	_, err = e.InjectFault(awsapi.Fault{Service: "kinesis", Operation: "ListStreams", Action: awsapi.Internal, Count: 1})
	if err != nil {
		log.Fatal(err)
	}
	// What only Kinesis has, such as records, is in its own form.
	_, err = e.InjectFault(kinesisapi.Fault{Operation: "PutRecords", Records: []int{3}, Action: kinesisapi.Throttle})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(e.Faults()))
	// Output: 2
}
