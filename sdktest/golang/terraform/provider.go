package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

const (
	poll    = 50 * time.Millisecond // the provider looks after 10 s, then every 3 s or more
	timeout = 60 * time.Second
	// missing is how often in a row a resource that is waited for may be absent.
	missing = 20
)

// config is what a user writes in an aws_kinesis_stream.
type config struct {
	name           string
	mode           types.StreamMode // "": PROVISIONED, and no block in the request
	shards         int32
	retention      int32
	metrics        []types.MetricsName
	key            string // of KMS; "": not encrypted
	maxRecordKiB   int32  // 0: not set
	warmMiBps      int32  // 0: not set
	tags           map[string]string
	deleteConsumer bool
}

// provider makes the calls of the provider's resources for Kinesis.
type provider struct {
	client *kinesis.Client
}

// notFound reports whether err is what the provider takes for an absent resource.
func notFound(err error) bool {
	var e *types.ResourceNotFoundException
	return errors.As(err, &e)
}

// retryable is what the provider adds to the errors that the SDK repeats.
func retryable(err error) aws.Ternary {
	var e *types.LimitExceededException
	if errors.As(err, &e) && (strings.Contains(e.ErrorMessage(), "simultaneously be in CREATING or DELETING") ||
		strings.Contains(e.ErrorMessage(), "Rate exceeded for stream")) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

// wait looks until the state is target; "" is an absent resource. Any other
// state than pending is an error, and so is a resource that stays absent.
func wait(ctx context.Context, pending, target string, look func() (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for absent := 0; ; {
		state, err := look()
		switch {
		case err != nil && !notFound(err):
			return err
		case err != nil && target == "":
			return nil
		case err != nil:
			if absent++; absent > missing {
				return fmt.Errorf("absent %d times: %w", absent, err)
			}
		case state == target:
			return nil
		case state != pending:
			return fmt.Errorf("unexpected state %s, wanted %s", state, target)
		default:
			absent = 0
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for state %q: %w", target, ctx.Err())
		case <-time.After(poll):
		}
	}
}

func (p *provider) find(ctx context.Context, name string) (*types.StreamDescriptionSummary, error) {
	out, err := p.client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &name})
	if err != nil {
		return nil, err
	}
	return out.StreamDescriptionSummary, nil
}

func (p *provider) waitStream(ctx context.Context, name string, pending, target types.StreamStatus) error {
	err := wait(ctx, string(pending), string(target), func() (string, error) {
		s, err := p.find(ctx, name)
		if err != nil {
			return "", err
		}
		return string(s.StreamStatus), nil
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	return nil
}

// updated waits for a stream after a call that had err.
func (p *provider) updated(ctx context.Context, name string, err error) error {
	if err != nil {
		return err
	}
	return p.waitStream(ctx, name, types.StreamStatusUpdating, types.StreamStatusActive)
}

// plan is the check of a plan that has a new stream or more shards.
func (p *provider) plan(ctx context.Context, more int32) error {
	out, err := p.client.DescribeLimits(ctx, &kinesis.DescribeLimitsInput{})
	if err != nil {
		return err
	}
	if *out.OpenShardCount+more > *out.ShardLimit || *out.OnDemandStreamCount+1 > *out.OnDemandStreamCountLimit {
		return fmt.Errorf("limits would be exceeded: %d of %d shards, %d of %d streams", *out.OpenShardCount, *out.ShardLimit, *out.OnDemandStreamCount, *out.OnDemandStreamCountLimit)
	}
	return nil
}

// create makes a stream and returns its ARN.
func (p *provider) create(ctx context.Context, c *config) (arn string, err error) {
	in := &kinesis.CreateStreamInput{StreamName: &c.name}
	if len(c.tags) > 0 {
		in.Tags = c.tags
	}
	if c.maxRecordKiB > 0 {
		in.MaxRecordSizeInKiB = &c.maxRecordKiB
	}
	if c.mode != types.StreamModeOnDemand {
		in.ShardCount = &c.shards
	}
	if c.mode != "" {
		in.StreamModeDetails = &types.StreamModeDetails{StreamMode: c.mode}
	}
	if c.warmMiBps > 0 {
		in.WarmThroughputMiBps = &c.warmMiBps
	}
	if _, err := p.client.CreateStream(ctx, in); err != nil {
		return "", err
	}
	if err := p.waitStream(ctx, c.name, types.StreamStatusCreating, types.StreamStatusActive); err != nil {
		return "", err
	}
	// Also when it is the 24 hours that a new stream has.
	if err := p.setRetention(ctx, c.name, 0, c.retention); err != nil {
		return "", err
	}
	if err := p.setMetrics(ctx, c.name, nil, c.metrics); err != nil {
		return "", err
	}
	if c.key != "" {
		if err := p.setKey(ctx, c.name, "", c.key); err != nil {
			return "", err
		}
	}
	s, err := p.find(ctx, c.name)
	if err != nil {
		return "", err
	}
	return *s.StreamARN, nil
}

func (p *provider) setRetention(ctx context.Context, name string, before, after int32) (err error) {
	if after > before {
		_, err = p.client.IncreaseStreamRetentionPeriod(ctx, &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: &name, RetentionPeriodHours: &after})
	} else {
		_, err = p.client.DecreaseStreamRetentionPeriod(ctx, &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: &name, RetentionPeriodHours: &after})
	}
	return p.updated(ctx, name, err)
}

// less returns what is in a and not in b.
func less(a, b []types.MetricsName) (out []types.MetricsName) {
	for _, m := range a {
		if !slices.Contains(b, m) {
			out = append(out, m)
		}
	}
	return out
}

func (p *provider) setMetrics(ctx context.Context, name string, before, after []types.MetricsName) error {
	if off := less(before, after); len(off) > 0 {
		_, err := p.client.DisableEnhancedMonitoring(ctx, &kinesis.DisableEnhancedMonitoringInput{StreamName: &name, ShardLevelMetrics: off})
		if err := p.updated(ctx, name, err); err != nil {
			return err
		}
	}
	if on := less(after, before); len(on) > 0 {
		_, err := p.client.EnableEnhancedMonitoring(ctx, &kinesis.EnableEnhancedMonitoringInput{StreamName: &name, ShardLevelMetrics: on})
		return p.updated(ctx, name, err)
	}
	return nil
}

func (p *provider) setKey(ctx context.Context, name, before, after string) (err error) {
	if after != "" {
		_, err = p.client.StartStreamEncryption(ctx, &kinesis.StartStreamEncryptionInput{StreamName: &name, EncryptionType: types.EncryptionTypeKms, KeyId: &after})
	} else {
		_, err = p.client.StopStreamEncryption(ctx, &kinesis.StopStreamEncryptionInput{StreamName: &name, EncryptionType: types.EncryptionTypeKms, KeyId: &before})
	}
	return p.updated(ctx, name, err)
}

// update carries out what differs between two configurations of a stream, in
// the order of the provider: tags, which are common to all resources, first.
func (p *provider) update(ctx context.Context, arn string, before, after *config) error {
	name := before.name
	var steps []func() error
	if !maps.Equal(before.tags, after.tags) {
		steps = append(steps, func() error { return p.setTags(ctx, name, before.tags, after.tags) })
	}
	if before.mode != after.mode {
		steps = append(steps, func() error {
			_, err := p.client.UpdateStreamMode(ctx, &kinesis.UpdateStreamModeInput{StreamARN: &arn, StreamModeDetails: &types.StreamModeDetails{StreamMode: after.mode}})
			return p.updated(ctx, name, err)
		})
	}
	if after.mode != types.StreamModeOnDemand && before.shards != after.shards {
		steps = append(steps, func() error {
			_, err := p.client.UpdateShardCount(ctx, &kinesis.UpdateShardCountInput{StreamName: &name, ScalingType: types.ScalingTypeUniformScaling, TargetShardCount: &after.shards})
			return p.updated(ctx, name, err)
		})
	}
	if before.retention != after.retention {
		steps = append(steps, func() error { return p.setRetention(ctx, name, before.retention, after.retention) })
	}
	steps = append(steps, func() error { return p.setMetrics(ctx, name, before.metrics, after.metrics) })
	if before.key != after.key {
		steps = append(steps, func() error { return p.setKey(ctx, name, before.key, after.key) })
	}
	if before.maxRecordKiB != after.maxRecordKiB {
		steps = append(steps, func() error {
			_, err := p.client.UpdateMaxRecordSize(ctx, &kinesis.UpdateMaxRecordSizeInput{StreamARN: &arn, MaxRecordSizeInKiB: &after.maxRecordKiB})
			return p.updated(ctx, name, err)
		})
	}
	if before.warmMiBps != after.warmMiBps {
		steps = append(steps, func() error {
			_, err := p.client.UpdateStreamWarmThroughput(ctx, &kinesis.UpdateStreamWarmThroughputInput{StreamARN: &arn, WarmThroughputMiBps: &after.warmMiBps})
			return p.updated(ctx, name, err)
		})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// setTags removes tags and adds others, ten at a time.
func (p *provider) setTags(ctx context.Context, name string, before, after map[string]string) error {
	var gone []string
	for k := range before {
		if _, ok := after[k]; !ok {
			gone = append(gone, k)
		}
	}
	for keys := range slices.Chunk(gone, 10) {
		if _, err := p.client.RemoveTagsFromStream(ctx, &kinesis.RemoveTagsFromStreamInput{StreamName: &name, TagKeys: keys}); err != nil {
			return err
		}
	}
	var changed []string
	for k, v := range after {
		if old, ok := before[k]; !ok || old != v {
			changed = append(changed, k)
		}
	}
	for keys := range slices.Chunk(changed, 10) {
		tags := make(map[string]string)
		for _, k := range keys {
			tags[k] = after[k]
		}
		if _, err := p.client.AddTagsToStream(ctx, &kinesis.AddTagsToStreamInput{StreamName: &name, Tags: tags}); err != nil {
			return err
		}
	}
	return nil
}

// tags returns all tags of a stream, page by page.
func (p *provider) tags(ctx context.Context, name string) (map[string]string, error) {
	all := make(map[string]string)
	in := &kinesis.ListTagsForStreamInput{StreamName: &name}
	for {
		out, err := p.client.ListTagsForStream(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, t := range out.Tags {
			all[*t.Key] = *t.Value
			in.ExclusiveStartTagKey = t.Key
		}
		if !*out.HasMoreTags {
			return all, nil
		}
	}
}

// read returns a stream as terraform keeps it in its state. An import is the
// same with nothing known but the name.
func (p *provider) read(ctx context.Context, name string) (*config, error) {
	s, err := p.find(ctx, name)
	if err != nil {
		return nil, err
	}
	c := &config{name: *s.StreamName, retention: *s.RetentionPeriodHours, maxRecordKiB: *s.MaxRecordSizeInKiB, key: aws.ToString(s.KeyId)}
	if s.StreamModeDetails != nil {
		c.mode = s.StreamModeDetails.StreamMode
	}
	if c.mode != types.StreamModeOnDemand {
		c.shards = *s.OpenShardCount
	}
	for _, m := range s.EnhancedMonitoring {
		c.metrics = append(c.metrics, m.ShardLevelMetrics...)
	}
	slices.Sort(c.metrics)
	if s.WarmThroughput != nil {
		c.warmMiBps = aws.ToInt32(s.WarmThroughput.CurrentMiBps)
	}
	if (s.EncryptionType == types.EncryptionTypeKms) != (c.key != "") {
		return nil, fmt.Errorf("encryption type %s with the key %q", s.EncryptionType, c.key)
	}
	c.tags, err = p.tags(ctx, name)
	return c, err
}

// remove deletes a stream and waits until it is gone; an absent one is deleted.
func (p *provider) remove(ctx context.Context, c *config) error {
	_, err := p.client.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &c.name, EnforceConsumerDeletion: &c.deleteConsumer})
	if notFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.waitStream(ctx, c.name, types.StreamStatusDeleting, "")
}

// shards is what the data source aws_kinesis_stream adds to a stream.
func (p *provider) shards(ctx context.Context, name string) (open, closed int, err error) {
	in := &kinesis.ListShardsInput{StreamName: &name}
	for {
		out, err := p.client.ListShards(ctx, in)
		if err != nil {
			return 0, 0, err
		}
		for _, s := range out.Shards {
			if s.SequenceNumberRange.EndingSequenceNumber == nil {
				open++
			} else {
				closed++
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return open, closed, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}
