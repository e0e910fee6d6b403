// Command terraform makes the calls that terraform's AWS provider makes for
// aws_kinesis_stream, aws_kinesis_stream_consumer and
// aws_kinesis_resource_policy, with the provider's SDK, and checks what it
// reads back as the provider would: a difference is a plan that is never empty.
//
// It is not terraform: the calls, their order, the states that are waited for
// and the errors that are repeated or taken for an absent resource were read
// from the provider's source. SHARDLOG names the binary whose endpoint is used.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "terraform's calls:", err)
		os.Exit(1)
	}
	fmt.Println("terraform's calls: all resources were made, changed, imported and removed")
}

const account, region = "123456789012", "eu-west-1"

// configure is what the provider does before all else: it verifies the
// credentials, and learns the account and the partition from the answer.
func configure(ctx context.Context, client *sts.Client) error {
	out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return err
	}
	who, err := arn.Parse(*out.Arn)
	if err != nil {
		return err
	}
	if *out.Account != account || who.AccountID != account || who.Partition != "aws" {
		return fmt.Errorf("the account is %s, of %s", *out.Account, *out.Arn)
	}
	return nil
}

// run starts an endpoint that is as slow as to show states, and as strict as
// AWS, and ends it.
func run(ctx context.Context) (err error) {
	cmd := exec.CommandContext(ctx, os.Getenv("SHARDLOG"), "serve", "-addr", "127.0.0.1:0", "-limits",
		"-create-time", "300ms", "-update-time", "200ms", "-delete-time", "300ms")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	url := strings.Fields(line)[2]
	login := credentials.NewStaticCredentialsProvider(account, "secret", "")
	if err := configure(ctx, sts.New(sts.Options{Region: region, BaseEndpoint: &url, Credentials: login})); err != nil {
		return fmt.Errorf("configuring the provider: %w", err)
	}
	p := &provider{client: kinesis.New(kinesis.Options{
		Region: region, BaseEndpoint: &url, Credentials: login,
		// The provider's default, max_retries = 25.
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = 25
			o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(retryable)}, o.Retryables...)
		}),
	})}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"stream", p.streams}, {"on demand", p.onDemand}, {"consumer and policy", p.dependents}, {"absent resources", p.absent},
	} {
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// same checks that a stream is read back as it was configured.
func (p *provider) same(ctx context.Context, c *config) error {
	got, err := p.read(ctx, c.name)
	if err != nil {
		return err
	}
	want := *c
	want.deleteConsumer = false // is not read
	if want.mode == "" {
		want.mode = types.StreamModeProvisioned
	}
	if want.maxRecordKiB == 0 {
		want.maxRecordKiB = got.maxRecordKiB // computed where it is not set
	}
	if want.warmMiBps == 0 {
		want.warmMiBps = got.warmMiBps
	}
	if !reflect.DeepEqual(got, &want) {
		return fmt.Errorf("configured %+v,\nread %+v", want, *got)
	}
	return nil
}

// tags returns n tags.
func tags(n int) map[string]string {
	out := make(map[string]string)
	for i := range n {
		out[fmt.Sprintf("tag-%02d", i)] = fmt.Sprint(i)
	}
	return out
}

// streams makes a stream as the provider's documentation has it, and changes
// one argument after another, back and forth.
func (p *provider) streams(ctx context.Context) error {
	c := &config{name: "terraform-kinesis-test", shards: 1, retention: 48, tags: map[string]string{"Environment": "test"},
		metrics: []types.MetricsName{types.MetricsNameIncomingBytes, types.MetricsNameOutgoingBytes}, mode: types.StreamModeProvisioned}
	if err := p.plan(ctx, c.shards); err != nil {
		return err
	}
	arn, err := p.create(ctx, c)
	if err != nil {
		return err
	}
	if err := p.same(ctx, c); err != nil {
		return err
	}
	for _, change := range []func(*config){
		func(c *config) { c.shards = 2 },
		func(c *config) { c.shards = 1 },
		func(c *config) { c.retention = 168 },
		func(c *config) { c.retention = 24 },
		func(c *config) {
			c.metrics = []types.MetricsName{types.MetricsNameIncomingRecords, types.MetricsNameOutgoingBytes}
		},
		func(c *config) { c.metrics = nil },
		func(c *config) { c.key = "alias/aws/kinesis" },
		func(c *config) { c.key = "alias/other" },
		func(c *config) { c.key = "" },
		func(c *config) { c.maxRecordKiB = 2048 },
		func(c *config) { c.tags = tags(35) },
		func(c *config) { c.tags = map[string]string{"Environment": "other", "tag-01": "1"} },
		func(c *config) { c.tags = map[string]string{} },
		func(c *config) { c.shards, c.retention, c.key, c.tags = 2, 72, "alias/aws/kinesis", tags(3) },
		func(c *config) { c.mode, c.shards = types.StreamModeOnDemand, 0 },
		func(c *config) { c.mode, c.shards = types.StreamModeProvisioned, 2 },
	} {
		before := *c
		before.tags = maps.Clone(c.tags)
		change(c)
		if err := p.plan(ctx, max(0, c.shards-before.shards)); err != nil {
			return err
		}
		if err := p.update(ctx, arn, &before, c); err != nil {
			return fmt.Errorf("from %+v\nto %+v: %w", before, *c, err)
		}
		if err := p.same(ctx, c); err != nil {
			return err
		}
	}
	open, closed, err := p.shards(ctx, c.name)
	if err != nil {
		return err
	}
	if open != 2 || closed == 0 {
		return fmt.Errorf("%d open shards and %d closed ones", open, closed)
	}
	return p.remove(ctx, c)
}

// onDemand makes streams with what only they can have.
func (p *provider) onDemand(ctx context.Context) error {
	c := &config{name: "on-demand", mode: types.StreamModeOnDemand, retention: 24, tags: map[string]string{}}
	arn, err := p.create(ctx, c)
	if err != nil {
		return err
	}
	if err := p.same(ctx, c); err != nil {
		return err
	}
	before := *c
	c.warmMiBps = 10
	if err := p.update(ctx, arn, &before, c); err != nil {
		return err
	}
	if err := p.same(ctx, c); err != nil {
		return err
	}
	if err := p.remove(ctx, c); err != nil {
		return err
	}
	// Warm from the beginning.
	if _, err := p.create(ctx, c); err != nil {
		return err
	}
	if err := p.same(ctx, c); err != nil {
		return err
	}
	return p.remove(ctx, c)
}

// dependents makes what belongs to a stream, and deletes the stream first with
// enforce_consumer_deletion, as a change that replaces it does.
func (p *provider) dependents(ctx context.Context) error {
	c := &config{name: "example", shards: 1, retention: 24, tags: map[string]string{}, deleteConsumer: true}
	streamARN, err := p.create(ctx, c)
	if err != nil {
		return err
	}
	arn, err := p.createConsumer(ctx, streamARN, "example-consumer")
	if err != nil {
		return err
	}
	if err := p.consumerSettings(ctx, arn); err != nil {
		return err
	}
	for _, resource := range []string{streamARN, arn} {
		for _, action := range []string{"kinesis:DescribeStreamSummary", "kinesis:GetRecords"} {
			policy := fmt.Sprintf(`{"Version": "2012-10-17", "Id": "writePolicy", "Statement": [{"Sid": "writestatement", "Effect": "Allow",
				"Principal": {"AWS": "123456789456"}, "Action": [%q, "kinesis:ListShards"], "Resource": %q}]}`, action, resource)
			if err := p.setPolicy(ctx, resource, policy); err != nil {
				return err
			}
		}
		if err := p.removePolicy(ctx, resource); err != nil {
			return err
		}
	}
	if err := p.removeConsumer(ctx, arn); err != nil {
		return err
	}
	again, err := p.createConsumer(ctx, streamARN, "example-consumer")
	if err != nil {
		return err
	}
	if err := p.remove(ctx, c); err != nil {
		return err
	}
	if _, err := p.findConsumer(ctx, again); !notFound(err) {
		return fmt.Errorf("a consumer of a deleted stream: %v", err)
	}
	return p.removeConsumer(ctx, again)
}

func (p *provider) consumerSettings(ctx context.Context, arn string) error {
	if err := p.setConsumerTags(ctx, arn, map[string]string{"a": "1", "b": "2"}); err != nil {
		return err
	}
	if err := p.setConsumerTags(ctx, arn, map[string]string{"a": "3"}, "b"); err != nil {
		return err
	}
	got, err := p.consumerTags(ctx, arn)
	if err != nil {
		return err
	}
	if !maps.Equal(got, map[string]string{"a": "3"}) {
		return fmt.Errorf("tags of a consumer: %v", got)
	}
	return nil
}

// absent refreshes and removes what somebody else has deleted.
func (p *provider) absent(ctx context.Context) error {
	none := &config{name: "none", shards: 1, retention: 24}
	if _, err := p.read(ctx, none.name); !notFound(err) {
		return fmt.Errorf("reading a stream that does not exist: %v", err)
	}
	arn := "arn:aws:kinesis:eu-west-1:123456789012:stream/none"
	if _, err := p.findConsumer(ctx, arn+"/consumer/c:1700000000"); !notFound(err) {
		return fmt.Errorf("reading a consumer that does not exist: %v", err)
	}
	if _, err := p.client.GetResourcePolicy(ctx, &kinesis.GetResourcePolicyInput{ResourceARN: aws.String(arn)}); !notFound(err) {
		return fmt.Errorf("reading the policy of a stream that does not exist: %v", err)
	}
	return errors.Join(p.removePolicy(ctx, arn), p.removeConsumer(ctx, arn+"/consumer/c:1700000000"), p.remove(ctx, none))
}
