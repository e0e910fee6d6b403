// Package golang drives the Kinesis endpoint with the AWS SDK for Go, version
// 2. It is a module of its own, so that the SDK reaches no user of shardlog.
package golang
