// Command dynamodbcheckpoint is a program outside the tree: it opens a store in
// a DynamoDB that is not there, and is refused.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/dynamodbcheckpoint"
)

func main() {
	client := dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://127.0.0.1:1"), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	_, err := dynamodbcheckpoint.Open(context.Background(), client, nil)
	if !errors.Is(err, checkpoint.ErrUnavailable) {
		log.Fatalf("got %v, want %v", err, checkpoint.ErrUnavailable)
	}
	fmt.Println("dynamodbcheckpoint: unavailable")
}
