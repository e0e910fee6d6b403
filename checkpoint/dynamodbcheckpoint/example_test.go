package dynamodbcheckpoint_test

import (
	"context"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/shardlog/shardlog/checkpoint/dynamodbcheckpoint"
)

// Checkpoints in DynamoDB. The rows of the shards are leases of the Kinesis
// Client Library, in the table of its application "billing", so that either can
// continue where the other has stopped. Pass the store to a consumer of the
// group and stream as Options.Store. The example needs a server and is only
// compiled.
func ExampleOpen() {
	client := dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://127.0.0.1:8000"),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	store, err := dynamodbcheckpoint.Open(context.Background(), client, &dynamodbcheckpoint.Options{
		Table: "billing", Group: "billing", Stream: "orders",
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = store
}
