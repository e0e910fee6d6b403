package golang

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

// A program that uses the log itself, and serves it to AWS SDKs as well.
func Example() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	orders, err := db.Ensure(ctx, "orders", stream.Config{Shards: 4})
	if err != nil {
		log.Fatal(err)
	}
	h, err := kinesisapi.NewHandler(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	srv := httptest.NewServer(h)
	defer srv.Close()

	client := kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: aws.String(srv.URL),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	put, err := client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String("customer-17"), Data: []byte("2 apples")})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range orders.Stats().Shards {
		if s.Records > 0 {
			fmt.Println(s.ID == *put.ShardId, s.Records)
		}
	}
	// Output: true 1
}
