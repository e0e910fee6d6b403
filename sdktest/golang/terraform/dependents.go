package main

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// createConsumer is aws_kinesis_stream_consumer; the ARN is its identity.
func (p *provider) createConsumer(ctx context.Context, streamARN, name string) (arn string, err error) {
	out, err := p.client.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: &streamARN, ConsumerName: &name})
	if err != nil {
		return "", err
	}
	arn = *out.Consumer.ConsumerARN
	if err := p.waitConsumer(ctx, arn, types.ConsumerStatusCreating, types.ConsumerStatusActive); err != nil {
		return "", err
	}
	return arn, p.checkConsumer(ctx, arn, streamARN, name)
}

func (p *provider) findConsumer(ctx context.Context, arn string) (*types.ConsumerDescription, error) {
	out, err := p.client.DescribeStreamConsumer(ctx, &kinesis.DescribeStreamConsumerInput{ConsumerARN: &arn})
	if err != nil {
		return nil, err
	}
	return out.ConsumerDescription, nil
}

func (p *provider) waitConsumer(ctx context.Context, arn string, pending, target types.ConsumerStatus) error {
	err := wait(ctx, string(pending), string(target), func() (string, error) {
		c, err := p.findConsumer(ctx, arn)
		if err != nil {
			return "", err
		}
		return string(c.ConsumerStatus), nil
	})
	if err != nil {
		return fmt.Errorf("consumer %s: %w", arn, err)
	}
	return nil
}

// checkConsumer reads a consumer by its ARN, as an import does too.
func (p *provider) checkConsumer(ctx context.Context, arn, streamARN, name string) error {
	c, err := p.findConsumer(ctx, arn)
	if err != nil {
		return err
	}
	if *c.ConsumerARN != arn || *c.StreamARN != streamARN || *c.ConsumerName != name || c.ConsumerCreationTimestamp == nil {
		return fmt.Errorf("a consumer that was not made: %+v", c)
	}
	return nil
}

// setConsumerTags is how resources with an ARN are tagged, all tags in one call.
func (p *provider) setConsumerTags(ctx context.Context, arn string, add map[string]string, remove ...string) error {
	if len(remove) > 0 {
		if _, err := p.client.UntagResource(ctx, &kinesis.UntagResourceInput{ResourceARN: &arn, TagKeys: remove}); err != nil {
			return err
		}
	}
	if len(add) == 0 {
		return nil
	}
	_, err := p.client.TagResource(ctx, &kinesis.TagResourceInput{ResourceARN: &arn, Tags: add})
	return err
}

func (p *provider) consumerTags(ctx context.Context, arn string) (map[string]string, error) {
	out, err := p.client.ListTagsForResource(ctx, &kinesis.ListTagsForResourceInput{ResourceARN: &arn})
	if err != nil {
		return nil, err
	}
	tags := make(map[string]string)
	for _, t := range out.Tags {
		tags[*t.Key] = *t.Value
	}
	return tags, nil
}

// removeConsumer deregisters by the ARN alone, and waits until it is gone.
func (p *provider) removeConsumer(ctx context.Context, arn string) error {
	_, err := p.client.DeregisterStreamConsumer(ctx, &kinesis.DeregisterStreamConsumerInput{ConsumerARN: &arn})
	if notFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.waitConsumer(ctx, arn, types.ConsumerStatusDeleting, "")
}

// setPolicy is aws_kinesis_resource_policy, new or changed, and its reading.
func (p *provider) setPolicy(ctx context.Context, arn, policy string) error {
	if _, err := p.client.PutResourcePolicy(ctx, &kinesis.PutResourcePolicyInput{ResourceARN: &arn, Policy: &policy}); err != nil {
		return err
	}
	out, err := p.client.GetResourcePolicy(ctx, &kinesis.GetResourcePolicyInput{ResourceARN: &arn})
	if err != nil {
		return err
	}
	// The provider compares policies by what they mean.
	var got, want any
	if err := json.Unmarshal([]byte(*out.Policy), &got); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(policy), &want); err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("the policy %s was read as %s", policy, *out.Policy)
	}
	return nil
}

func (p *provider) removePolicy(ctx context.Context, arn string) error {
	_, err := p.client.DeleteResourcePolicy(ctx, &kinesis.DeleteResourcePolicyInput{ResourceARN: &arn})
	if notFound(err) {
		return nil
	}
	return err
}
