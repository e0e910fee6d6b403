package awsapi_test

import (
	"fmt"
	"log"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

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
