package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/benchmarks/patterns"
)

// target is a patterns.Target that creates streams at an endpoint.
type target struct {
	endpoint, region, prefix string
	client                   *kinesis.Client
	config                   aws.Config
}

// Bounds of a PutRecords request (Kinesis API reference, PutRecords).
const (
	maxRequestRecords = shardlog.MaxRequestRecords
	maxRequestBytes   = shardlog.MaxRequestBytes
)

// connect creates the client. It does not retry: the workload does, so that
// throttles are counted and the time they take is measured.
func (t *target) connect(ctx context.Context) error {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		tr.MaxIdleConnsPerHost, tr.MaxIdleConns = 4096, 0 // producers keep their connections
	})
	opts := []func(*config.LoadOptions) error{config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), config.WithHTTPClient(client)}
	if t.region != "" {
		opts = append(opts, config.WithRegion(t.region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return err
	}
	if t.endpoint != "" {
		if cfg.Region == "" {
			cfg.Region = "us-east-1"
		}
		// An emulator accepts any credentials, so the environment need not have
		// any.
		if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
			cfg.Credentials = credentials.NewStaticCredentialsProvider("000000000000", "none", "")
		}
	}
	t.config = cfg
	t.client = t.newClient()
	return nil
}

// newClient returns a client, which shares its connections with the others.
func (t *target) newClient() *kinesis.Client {
	return kinesis.NewFromConfig(t.config, func(o *kinesis.Options) {
		if t.endpoint != "" {
			o.BaseEndpoint = aws.String(t.endpoint)
		}
	})
}

// Name implements patterns.Target.
func (t *target) Name() string {
	if t.endpoint == "" {
		return "Kinesis"
	}
	return "Kinesis endpoint " + t.endpoint
}

// Exact implements patterns.Target. It is not exact: a request without a response
// is sent again although it may have been stored, and PutRecords does not keep the
// order when records fail (Kinesis API reference).
func (t *target) Exact() bool { return false }

// Open implements patterns.Target.
func (t *target) Open(ctx context.Context, w *patterns.Workload) (patterns.Log, error) {
	bad := func(field string, value any, limit string) (patterns.Log, error) {
		return nil, &shardlog.InvalidError{Field: field, Value: value, Limit: limit}
	}
	switch {
	case w.Batch > maxRequestRecords:
		return bad("batch", w.Batch, "at most 500 for Kinesis")
	case w.Memory:
		return bad("memory", true, "false: the endpoint decides")
	case w.Compression != "none":
		return bad("compression", w.Compression, "none: the endpoint decides")
	case w.Consumers.Mode == patterns.ConsumeTail:
		return bad("consumers.mode", w.Consumers.Mode, "poll, fanout or group: Kinesis has no reads that wait")
	}
	w.Sync, w.Limits, w.Compression = "", "", ""
	l := &log{target: t, name: aws.String(t.prefix + strings.ToLower(rand.Text()[:12])), iterators: map[iteratorKey]string{}}
	if _, err := t.client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: l.name, ShardCount: aws.Int32(int32(w.Shards)),
		StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeProvisioned}}); err != nil {
		return nil, err
	}
	if err := l.active(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// active waits until the stream is ACTIVE.
func (l *log) active(ctx context.Context) error {
	for {
		d, err := l.target.client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: l.name})
		if err != nil && !isThrottle(err) {
			return err
		}
		if err == nil && d.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive {
			l.arn = d.StreamDescriptionSummary.StreamARN
			return nil
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// Close implements patterns.Log: it deletes the stream and its consumers.
func (l *log) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		_, err := l.target.client.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: l.name, EnforceConsumerDeletion: aws.Bool(true)})
		if !isThrottle(err) {
			return err
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// Usage implements patterns.Log. An endpoint does not report it.
func (l *log) Usage() patterns.Usage { return patterns.Usage{} }

// pause waits, and returns the cause if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
