package kinesisapi_test

import (
	"fmt"
	"log"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
)

// The second PutRecord is stored, but its client does not learn of it.
func ExampleHandler_InjectFault() {
	h, done := newHandler()
	defer done()
	id, err := h.InjectFault(kinesisapi.Fault{Operation: "PutRecord", Action: kinesisapi.Lost, Skip: 1, Count: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id, h.Faults()[0].Action)
	h.ClearFaults()
	fmt.Println(len(h.Faults()))
	// Output:
	// 1 lost
	// 0
}
