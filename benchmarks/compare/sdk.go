package main

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

var ctx = context.Background()

// sdkClient is a client of the AWS SDK with so many connections.
func sdkClient(url string, conns int) (k *kinesis.Client, closeAll func()) {
	tr := &http.Transport{MaxIdleConnsPerHost: conns}
	return kinesis.New(kinesis.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(url), HTTPClient: &http.Client{Transport: whole{tr}, Timeout: patience}, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	}), tr.CloseIdleConnections
}

// sdk sends the request with the AWS SDK.
func (r request) sdk(url, name string) (newSender func() sender, closeAll func()) {
	k, closeAll := sdkClient(url, r.conns)
	var entries []types.PutRecordsRequestEntry
	for _, rec := range newMaker(0, shape{size: r.size}).batch(r.records) {
		entries = append(entries, types.PutRecordsRequestEntry{Data: rec.data, PartitionKey: aws.String(rec.key)})
	}
	if r.records == 1 {
		in := &kinesis.PutRecordInput{StreamName: aws.String(name), Data: entries[0].Data, PartitionKey: entries[0].PartitionKey}
		return func() sender {
			return func() (int, error) {
				_, err := k.PutRecord(ctx, in)
				return 1, err
			}
		}, closeAll
	}
	in := &kinesis.PutRecordsInput{StreamName: aws.String(name), Records: entries}
	return func() sender {
		return func() (int, error) {
			out, err := k.PutRecords(ctx, in)
			if err != nil {
				return 0, err
			}
			return r.records - int(aws.ToInt32(out.FailedRecordCount)), nil
		}
	}, closeAll
}

// read has connections of the AWS SDK read pages of 500 records of 100 bytes.
func (e endpoint) read(conns int) metrics {
	url, stop := e.serve()
	name := e.createStream(url)
	put, _ := request{500, 100, 1}.ready(url, name)
	total := 0
	for send, i := put(), 0; i < 8; i++ {
		total += must(send())
	}
	k, closeAll := sdkClient(url, conns)
	it := must(k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: aws.String(name), ShardId: aws.String("shardId-000000000000"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon}))
	d, _ := bounds()
	rate, _, _ := inLoops(conns, d, func() sender {
		return func() (int, error) {
			out, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator, Limit: aws.Int32(500)})
			if err != nil {
				return 0, err
			}
			if len(out.Records) == 0 {
				panic("a page is empty")
			}
			return len(out.Records), nil
		}
	})
	closeAll()
	stop(int64(total))
	e.forget(url, name)
	return metrics{"rate": rate}
}

// whole gives the transport bodies that it can read to the end before the answer
// comes, and another User-Agent, for which nothing waits: see
// docs/COMPATIBILITY.md on answers that would be too early.
type whole struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (w whole) RoundTrip(r *http.Request) (*http.Response, error) {
	var buf bytes.Buffer
	if r.Body != nil {
		if _, err := buf.ReadFrom(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close() // it is the SDK's, in memory
	}
	own := r.Clone(r.Context())
	own.Body, own.ContentLength = http.NoBody, int64(buf.Len())
	if buf.Len() > 0 {
		own.Body = io.NopCloser(bytes.NewReader(buf.Bytes()))
	}
	own.Header.Set("User-Agent", "compare")
	return w.Transport.RoundTrip(own)
}
