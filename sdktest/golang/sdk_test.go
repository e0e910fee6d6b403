package golang

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/kinesistest"
	"github.com/shardlog/shardlog/stream"
)

// used remembers which operations were called.
type used struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (u *used) middleware(s *middleware.Stack) error {
	return s.Initialize.Add(middleware.InitializeMiddlewareFunc("used", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		out, md, err := next.HandleInitialize(ctx, in)
		if err == nil {
			u.mu.Lock()
			u.seen[middleware.GetOperationName(ctx)] = true
			u.mu.Unlock()
		}
		return out, md, err
	}), middleware.Before)
}

// newClient returns a client of a server.
func newClient(srv *kinesistest.Server, more ...func(*kinesis.Options)) *kinesis.Client {
	return kinesis.New(kinesis.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(srv.URL), HTTPClient: srv.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("123456789012", "secret", ""),
		Retryer:     aws.NopRetryer{},
	}, more...)
}

const arnOf = "arn:aws:kinesis:eu-west-1:123456789012:stream/"

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

// newer are operations of the SDK that came after the service model that the
// endpoint has; docs/COMPATIBILITY.md lists them as missing.
var newer = []string{"CreateChannel", "DeleteChannel", "DescribeChannel", "ListChannels", "UpdateChannel", "UpdateStreamRecordDistributionStrategy"}

// sdkOperations returns the operations that the SDK has, by name.
func sdkOperations() (names []string) {
	typ := reflect.TypeFor[*kinesis.Client]()
	for i := range typ.NumMethod() {
		if op := typ.Method(i).Name; op != "Options" {
			names = append(names, op)
		}
	}
	return names
}

// TestEveryOperation calls all operations that the SDK has and fails if one of
// them was left out, so a newer SDK shows what is new.
func TestEveryOperation(t *testing.T) {
	for name, opts := range map[string]*kinesistest.Options{"http": nil, "https": {TLS: true}, "memory": {InMemory: true},
		"verified":        {API: &kinesisapi.Options{Credentials: map[string]string{"123456789012": "secret"}}},
		"verified HTTP/2": {API: &kinesisapi.Options{Credentials: map[string]string{"123456789012": "secret"}}, TLS: true}} {
		t.Run(name, func(t *testing.T) {
			u := &used{seen: map[string]bool{}}
			srv := kinesistest.NewServer(t, opts)
			c := newClient(srv, func(o *kinesis.Options) { o.APIOptions = append(o.APIOptions, u.middleware) })
			streams(t, c)
			records(t, c)
			consumers(t, c)
			settings(t, c)
			var missing []string
			for _, op := range sdkOperations() {
				if !u.seen[op] {
					missing = append(missing, op)
				}
			}
			require.Equal(t, newer, missing)
			require.Len(t, u.seen, 39)
		})
	}
}

func streams(t *testing.T, c *kinesis.Client) {
	ctx, name, arn := t.Context(), aws.String("s"), aws.String(arnOf+"s")
	must[*kinesis.CreateStreamOutput](t)(c.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(2), Tags: map[string]string{"a": "b"}}))
	require.NoError(t, kinesis.NewStreamExistsWaiter(c).Wait(ctx, &kinesis.DescribeStreamInput{StreamName: name}, time.Minute))
	d := must[*kinesis.DescribeStreamOutput](t)(c.DescribeStream(ctx, &kinesis.DescribeStreamInput{StreamName: name})).StreamDescription
	require.Equal(t, *arn, *d.StreamARN)
	require.Equal(t, types.StreamStatusActive, d.StreamStatus)
	require.WithinDuration(t, time.Now(), *d.StreamCreationTimestamp, time.Minute)
	require.Len(t, d.Shards, 2)
	must[*kinesis.SplitShardOutput](t)(c.SplitShard(ctx, &kinesis.SplitShardInput{StreamARN: arn, ShardToSplit: d.Shards[0].ShardId, NewStartingHashKey: aws.String("1000")}))
	must[*kinesis.MergeShardsOutput](t)(c.MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: name, ShardToMerge: aws.String("shardId-000000000002"), AdjacentShardToMerge: aws.String("shardId-000000000003")}))
	u := must[*kinesis.UpdateShardCountOutput](t)(c.UpdateShardCount(ctx, &kinesis.UpdateShardCountInput{StreamName: name, TargetShardCount: aws.Int32(4), ScalingType: types.ScalingTypeUniformScaling}))
	require.EqualValues(t, []int32{2, 4}, []int32{*u.CurrentShardCount, *u.TargetShardCount})
	l := must[*kinesis.ListShardsOutput](t)(c.ListShards(ctx, &kinesis.ListShardsInput{StreamName: name, ShardFilter: &types.ShardFilter{Type: types.ShardFilterTypeAtLatest}}))
	require.Len(t, l.Shards, 4)
	s := must[*kinesis.DescribeStreamSummaryOutput](t)(c.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: name})).StreamDescriptionSummary
	require.EqualValues(t, 4, *s.OpenShardCount)
	must[*kinesis.IncreaseStreamRetentionPeriodOutput](t)(c.IncreaseStreamRetentionPeriod(ctx, &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: aws.Int32(48)}))
	must[*kinesis.DecreaseStreamRetentionPeriodOutput](t)(c.DecreaseStreamRetentionPeriod(ctx, &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: aws.Int32(24)}))
	var pages, names int
	for i := range 5 {
		must[*kinesis.CreateStreamOutput](t)(c.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String(fmt.Sprint("page", i)), ShardCount: aws.Int32(1)}))
	}
	for p := kinesis.NewListStreamsPaginator(c, &kinesis.ListStreamsInput{Limit: aws.Int32(2)}); p.HasMorePages(); pages++ {
		names += len(must[*kinesis.ListStreamsOutput](t)(p.NextPage(ctx)).StreamNames)
	}
	require.Equal(t, []int{3, 6}, []int{pages, names})
	for i := range 5 {
		must[*kinesis.DeleteStreamOutput](t)(c.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: aws.String(fmt.Sprint("page", i))}))
	}
	require.NoError(t, kinesis.NewStreamNotExistsWaiter(c).Wait(ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("page0")}, time.Minute))
}

func records(t *testing.T, c *kinesis.Client) {
	ctx, name := t.Context(), aws.String("s")
	put := must[*kinesis.PutRecordOutput](t)(c.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: name, Data: []byte{0, 0xff}, PartitionKey: aws.String("ü"), ExplicitHashKey: aws.String("0")}))
	many := must[*kinesis.PutRecordsOutput](t)(c.PutRecords(ctx, &kinesis.PutRecordsInput{StreamARN: aws.String(arnOf + "s"), Records: []types.PutRecordsRequestEntry{
		{Data: []byte("one"), PartitionKey: aws.String("k"), ExplicitHashKey: aws.String("0")}, {Data: []byte{}, PartitionKey: aws.String("k"), ExplicitHashKey: aws.String("1")}}}))
	require.EqualValues(t, 0, *many.FailedRecordCount)
	it := must[*kinesis.GetShardIteratorOutput](t)(c.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: put.ShardId,
		ShardIteratorType: types.ShardIteratorTypeAtTimestamp, Timestamp: aws.Time(time.Now().Add(-time.Minute))}))
	got := must[*kinesis.GetRecordsOutput](t)(c.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator}))
	require.Len(t, got.Records, 3)
	require.Equal(t, []byte{0, 0xff}, got.Records[0].Data)
	require.Equal(t, "ü", *got.Records[0].PartitionKey)
	require.Equal(t, *put.SequenceNumber, *got.Records[0].SequenceNumber)
	require.Empty(t, got.Records[0].EncryptionType)
	require.WithinDuration(t, time.Now(), *got.Records[0].ApproximateArrivalTimestamp, time.Minute)
	require.NotNil(t, got.NextShardIterator)
	require.Zero(t, *got.MillisBehindLatest)
}

func consumers(t *testing.T, c *kinesis.Client) {
	ctx, arn := t.Context(), aws.String(arnOf+"s")
	con := must[*kinesis.RegisterStreamConsumerOutput](t)(c.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: aws.String("c")})).Consumer
	d := must[*kinesis.DescribeStreamConsumerOutput](t)(c.DescribeStreamConsumer(ctx, &kinesis.DescribeStreamConsumerInput{ConsumerARN: con.ConsumerARN})).ConsumerDescription
	require.Equal(t, types.ConsumerStatusActive, d.ConsumerStatus)
	must[*kinesis.RegisterStreamConsumerOutput](t)(c.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: aws.String("d")}))
	n := 0
	for p := kinesis.NewListStreamConsumersPaginator(c, &kinesis.ListStreamConsumersInput{StreamARN: arn, MaxResults: aws.Int32(1)}); p.HasMorePages(); {
		n += len(must[*kinesis.ListStreamConsumersOutput](t)(p.NextPage(ctx)).Consumers)
	}
	require.Equal(t, 2, n)
	shards := must[*kinesis.ListShardsOutput](t)(c.ListShards(ctx, &kinesis.ListShardsInput{StreamName: aws.String("s")})).Shards
	var closed *types.Shard
	for i := range shards {
		if shards[i].SequenceNumberRange.EndingSequenceNumber != nil {
			closed = &shards[i]
		}
	}
	sub := must[*kinesis.SubscribeToShardOutput](t)(c.SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{ConsumerARN: con.ConsumerARN, ShardId: closed.ShardId,
		StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon}}))
	var last types.SubscribeToShardEvent
	for ev := range sub.GetStream().Events() {
		last = ev.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
	}
	require.NoError(t, sub.GetStream().Err())
	require.NoError(t, sub.GetStream().Close())
	require.NotEmpty(t, last.ChildShards)
	must[*kinesis.DeregisterStreamConsumerOutput](t)(c.DeregisterStreamConsumer(ctx, &kinesis.DeregisterStreamConsumerInput{ConsumerARN: con.ConsumerARN}))
}

func settings(t *testing.T, c *kinesis.Client) {
	ctx, name, arn := t.Context(), aws.String("s"), aws.String(arnOf+"s")
	must[*kinesis.AddTagsToStreamOutput](t)(c.AddTagsToStream(ctx, &kinesis.AddTagsToStreamInput{StreamName: name, Tags: map[string]string{"c": "d"}}))
	must[*kinesis.TagResourceOutput](t)(c.TagResource(ctx, &kinesis.TagResourceInput{ResourceARN: arn, Tags: map[string]string{"e": "f"}}))
	require.Len(t, must[*kinesis.ListTagsForStreamOutput](t)(c.ListTagsForStream(ctx, &kinesis.ListTagsForStreamInput{StreamName: name})).Tags, 3)
	must[*kinesis.RemoveTagsFromStreamOutput](t)(c.RemoveTagsFromStream(ctx, &kinesis.RemoveTagsFromStreamInput{StreamName: name, TagKeys: []string{"c"}}))
	must[*kinesis.UntagResourceOutput](t)(c.UntagResource(ctx, &kinesis.UntagResourceInput{ResourceARN: arn, TagKeys: []string{"e"}}))
	require.Len(t, must[*kinesis.ListTagsForResourceOutput](t)(c.ListTagsForResource(ctx, &kinesis.ListTagsForResourceInput{ResourceARN: arn})).Tags, 1)
	must[*kinesis.StartStreamEncryptionOutput](t)(c.StartStreamEncryption(ctx, &kinesis.StartStreamEncryptionInput{StreamName: name, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("k")}))
	must[*kinesis.StopStreamEncryptionOutput](t)(c.StopStreamEncryption(ctx, &kinesis.StopStreamEncryptionInput{StreamName: name, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("k")}))
	must[*kinesis.EnableEnhancedMonitoringOutput](t)(c.EnableEnhancedMonitoring(ctx, &kinesis.EnableEnhancedMonitoringInput{StreamName: name, ShardLevelMetrics: []types.MetricsName{types.MetricsNameAll}}))
	must[*kinesis.DisableEnhancedMonitoringOutput](t)(c.DisableEnhancedMonitoring(ctx, &kinesis.DisableEnhancedMonitoringInput{StreamName: name, ShardLevelMetrics: []types.MetricsName{types.MetricsNameAll}}))
	must[*kinesis.UpdateStreamModeOutput](t)(c.UpdateStreamMode(ctx, &kinesis.UpdateStreamModeInput{StreamARN: arn, StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand}}))
	w := must[*kinesis.UpdateStreamWarmThroughputOutput](t)(c.UpdateStreamWarmThroughput(ctx, &kinesis.UpdateStreamWarmThroughputInput{StreamARN: arn, WarmThroughputMiBps: aws.Int32(10)}))
	require.EqualValues(t, 10, *w.WarmThroughput.TargetMiBps)
	must[*kinesis.UpdateMaxRecordSizeOutput](t)(c.UpdateMaxRecordSize(ctx, &kinesis.UpdateMaxRecordSizeInput{StreamARN: arn, MaxRecordSizeInKiB: aws.Int32(4096)}))
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kinesis:GetRecords","Resource":"` + *arn + `"}]}`
	must[*kinesis.PutResourcePolicyOutput](t)(c.PutResourcePolicy(ctx, &kinesis.PutResourcePolicyInput{ResourceARN: arn, Policy: aws.String(policy)}))
	require.Equal(t, policy, *must[*kinesis.GetResourcePolicyOutput](t)(c.GetResourcePolicy(ctx, &kinesis.GetResourcePolicyInput{ResourceARN: arn})).Policy)
	must[*kinesis.DeleteResourcePolicyOutput](t)(c.DeleteResourcePolicy(ctx, &kinesis.DeleteResourcePolicyInput{ResourceARN: arn}))
	require.Positive(t, *must[*kinesis.DescribeLimitsOutput](t)(c.DescribeLimits(ctx, nil)).OpenShardCount)
	must[*kinesis.UpdateAccountSettingsOutput](t)(c.UpdateAccountSettings(ctx, &kinesis.UpdateAccountSettingsInput{MinimumThroughputBillingCommitment: &types.MinimumThroughputBillingCommitmentInput{
		Status: types.MinimumThroughputBillingCommitmentInputStatusEnabled}}))
	require.NotNil(t, must[*kinesis.DescribeAccountSettingsOutput](t)(c.DescribeAccountSettings(ctx, nil)).MinimumThroughputBillingCommitment.StartedAt)
}

// The shapes of errors that the SDK knows.
func TestErrors(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}, API: &kinesisapi.Options{Credentials: map[string]string{"123456789012": "secret"}}})
	c, ctx := newClient(srv), t.Context()
	_, err := c.DescribeStream(ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("none")})
	var notFound *types.ResourceNotFoundException
	require.ErrorAs(t, err, &notFound)
	require.Equal(t, "Stream none under account 123456789012 not found.", *notFound.Message)
	_, err = c.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1)})
	var inUse *types.ResourceInUseException
	require.ErrorAs(t, err, &inUse)
	_, err = c.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: aws.String("x")})
	var invalid *types.InvalidArgumentException
	require.ErrorAs(t, err, &invalid)
	it := must[*kinesis.GetShardIteratorOutput](t)(c.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: aws.String("0"), ShardIteratorType: types.ShardIteratorTypeLatest}))
	_, err = c.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String(strings.Repeat("k", 257)), Data: []byte{}})
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, "ValidationException", api.ErrorCode())
	for action, code := range map[kinesisapi.Action]string{kinesisapi.Throttle: "ProvisionedThroughputExceededException", kinesisapi.Internal: "InternalFailure"} {
		_, err := srv.Handler.InjectFault(kinesisapi.Fault{Action: action})
		require.NoError(t, err)
		_, err = c.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
		require.ErrorAs(t, err, &api)
		require.Equal(t, code, api.ErrorCode())
		srv.Handler.ClearFaults()
	}
	wrong := newClient(srv, func(o *kinesis.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("123456789012", "wrong", "")
	})
	_, err = wrong.DescribeLimits(ctx, nil)
	require.ErrorAs(t, err, &api)
	require.Equal(t, "InvalidSignatureException", api.ErrorCode())
}

// A client whose answers are lost puts again, and what it put is there twice:
// that is what Kinesis promises, and tests should be able to see it.
func TestLostAnswers(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	c := newClient(srv, func(o *kinesis.Options) { o.Retryer = retry.NewStandard() })
	_, err := srv.Handler.InjectFault(kinesisapi.Fault{Operation: "PutRecord", Action: kinesisapi.Lost, Count: 1})
	require.NoError(t, err)
	must[*kinesis.PutRecordOutput](t)(c.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: []byte("x")}))
	st, err := srv.DB.Stream(t.Context(), "s")
	require.NoError(t, err)
	require.EqualValues(t, 2, st.Stats().Shards[0].Records)
}

// TestEightWriters checks that what eight writers put is read exactly once and
// in the order of each key, with iterators and by subscription, while the
// stream is resharded.
func TestEightWriters(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 2}})
	c, ctx, name := newClient(srv), t.Context(), aws.String("s")
	const writers, batches, size = 8, 30, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for b := range batches {
				in := &kinesis.PutRecordsInput{StreamName: name}
				for i := range size {
					in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String(fmt.Sprint("writer", w)), Data: fmt.Appendf(nil, "%d", b*size+i)})
				}
				out, err := c.PutRecords(ctx, in)
				if err != nil || *out.FailedRecordCount != 0 {
					t.Errorf("put: %v", err)
					return
				}
			}
		})
	}
	must[*kinesis.UpdateShardCountOutput](t)(c.UpdateShardCount(ctx, &kinesis.UpdateShardCountInput{StreamName: name, TargetShardCount: aws.Int32(4), ScalingType: types.ScalingTypeUniformScaling}))
	must[*kinesis.UpdateShardCountOutput](t)(c.UpdateShardCount(ctx, &kinesis.UpdateShardCountInput{StreamName: name, TargetShardCount: aws.Int32(3), ScalingType: types.ScalingTypeUniformScaling}))
	wg.Wait()
	shards := must[*kinesis.ListShardsOutput](t)(c.ListShards(ctx, &kinesis.ListShardsInput{StreamName: name})).Shards
	con := must[*kinesis.RegisterStreamConsumerOutput](t)(c.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: aws.String(arnOf + "s"), ConsumerName: aws.String("c")})).Consumer
	for how, read := range map[string]func(shard *string) []types.Record{
		"iterators":    func(shard *string) []types.Record { return byIterator(t, c, shard) },
		"subscription": func(shard *string) []types.Record { return bySubscription(t, srv, con.ConsumerARN, shard) },
	} {
		got := map[string][]string{}
		for _, sh := range shards { // in the order of creation, parents first
			for _, r := range read(sh.ShardId) {
				got[*r.PartitionKey] = append(got[*r.PartitionKey], string(r.Data))
			}
		}
		var want []string
		for i := range batches * size {
			want = append(want, fmt.Sprint(i))
		}
		for w := range writers {
			require.True(t, slices.Equal(want, got[fmt.Sprint("writer", w)]), "%s, writer %d: %d records", how, w, len(got[fmt.Sprint("writer", w)]))
		}
	}
}

func byIterator(t *testing.T, c *kinesis.Client, shard *string) (all []types.Record) {
	it := must[*kinesis.GetShardIteratorOutput](t)(c.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})).ShardIterator
	for it != nil {
		out := must[*kinesis.GetRecordsOutput](t)(c.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(37)}))
		all = append(all, out.Records...)
		if it = out.NextShardIterator; len(out.Records) == 0 && *out.MillisBehindLatest == 0 {
			break
		}
	}
	return all
}

func bySubscription(t *testing.T, srv *kinesistest.Server, consumer, shard *string) (all []types.Record) {
	c := newClient(srv) // subscriptions of one client share a decoder that has no lock
	sub := must[*kinesis.SubscribeToShardOutput](t)(c.SubscribeToShard(t.Context(), &kinesis.SubscribeToShardInput{ConsumerARN: consumer, ShardId: shard,
		StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon}}))
	defer sub.GetStream().Close()
	for ev := range sub.GetStream().Events() {
		e := ev.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
		all = append(all, e.Records...)
		if *e.MillisBehindLatest == 0 {
			break
		}
	}
	return all
}

// Fan-out over HTTP/1.1, HTTP/2 with TLS, and HTTP/2 without.
func TestSubscriptionOverAllProtocols(t *testing.T) {
	for name, protocol := range map[string]struct {
		tls   bool
		setup func(*http.Protocols)
	}{
		"HTTP/1.1":           {false, func(p *http.Protocols) { p.SetHTTP1(true) }},
		"HTTP/1.1 with TLS":  {true, func(p *http.Protocols) { p.SetHTTP1(true) }},
		"HTTP/2 with TLS":    {true, func(p *http.Protocols) { p.SetHTTP2(true) }},
		"HTTP/2 without TLS": {false, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }},
	} {
		t.Run(name, func(t *testing.T) {
			protocols := &http.Protocols{}
			protocol.setup(protocols)
			srv := kinesistest.NewServer(t, &kinesistest.Options{TLS: protocol.tls, Protocols: protocols, Streams: map[string]int{"s": 1}})
			c, ctx := newClient(srv), t.Context()
			con := must[*kinesis.RegisterStreamConsumerOutput](t)(c.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: aws.String(arnOf + "s"), ConsumerName: aws.String("c")})).Consumer
			sub := must[*kinesis.SubscribeToShardOutput](t)(c.SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{ConsumerARN: con.ConsumerARN, ShardId: aws.String("shardId-000000000000"),
				StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeLatest}}))
			defer sub.GetStream().Close()
			events := sub.GetStream().Events()
			<-events
			for i := range 3 {
				must[*kinesis.PutRecordOutput](t)(c.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: fmt.Append(nil, i)}))
				ev := <-events
				require.NotNil(t, ev, "the stream has ended: %v", sub.GetStream().Err())
				e := ev.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
				require.Len(t, e.Records, 1)
				require.Equal(t, fmt.Sprint(i), string(e.Records[0].Data))
			}
			must[*kinesis.DeleteStreamOutput](t)(c.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: aws.String("s"), EnforceConsumerDeletion: aws.Bool(true)}))
			_, more := <-events
			require.False(t, more)
			var notFound *types.ResourceNotFoundException
			require.ErrorAs(t, sub.GetStream().Err(), &notFound, "an exception is a frame of the stream")
		})
	}
}

// The SDK in a bubble of fake time: an iterator expires without waiting.
func TestFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := kinesistest.NewServer(t, &kinesistest.Options{InMemory: true, Streams: map[string]int{"s": 1}})
		c, ctx := newClient(srv), t.Context()
		it := must[*kinesis.GetShardIteratorOutput](t)(c.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: aws.String("0"), ShardIteratorType: types.ShardIteratorTypeLatest}))
		time.Sleep(5*time.Minute + time.Second)
		_, err := c.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
		var expired *types.ExpiredIteratorException
		require.ErrorAs(t, err, &expired)
		srv.Client().CloseIdleConnections()
	})
}

// As README.md shows it, and with the SDK's usual configuration.
func TestOrders(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"orders": 4}})
	client := kinesis.New(kinesis.Options{ // aws-sdk-go-v2, unmodified
		Region: "us-east-1", BaseEndpoint: aws.String(srv.URL), HTTPClient: srv.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	_, err := client.PutRecord(t.Context(), &kinesis.PutRecordInput{
		StreamName: aws.String("orders"), PartitionKey: aws.String("customer-17"), Data: []byte("2 apples"),
	})
	require.NoError(t, err) // and srv.DB has the record

	t.Setenv("AWS_CA_BUNDLE", "") // the configuration takes that or a client of our own
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(srv.URL), config.WithHTTPClient(srv.Client()),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("test", "test", "")))
	require.NoError(t, err)
	out, err := kinesis.NewFromConfig(cfg).DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("orders")})
	require.NoError(t, err)
	require.EqualValues(t, 4, *out.StreamDescriptionSummary.OpenShardCount)
}

// The limits of a shard show as the SDK's users see them: some records of a
// PutRecords fail, and its retries wait.
func TestPartialFailure(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{API: &kinesisapi.Options{Limits: stream.Limits{WriteRecords: 10}}})
	c, ctx := newClient(srv), t.Context()
	must[*kinesis.CreateStreamOutput](t)(c.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1)}))
	in := &kinesis.PutRecordsInput{StreamName: aws.String("s")}
	for range 100 {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), Data: []byte("x")})
	}
	out := must[*kinesis.PutRecordsOutput](t)(c.PutRecords(ctx, in))
	require.GreaterOrEqual(t, *out.FailedRecordCount, int32(80))
	require.Less(t, *out.FailedRecordCount, int32(100))
	require.Equal(t, "ProvisionedThroughputExceededException", *out.Records[99].ErrorCode)
	require.NotNil(t, out.Records[0].SequenceNumber)
	_, err := c.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: []byte("x")})
	var exceeded *types.ProvisionedThroughputExceededException
	require.True(t, errors.As(err, &exceeded), err)
}

// TestCompatibilityDocument checks that docs/COMPATIBILITY.md has a line for
// each operation that the SDK has, and for no other.
func TestCompatibilityDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/COMPATIBILITY.md")
	require.NoError(t, err)
	var got []string
	for _, l := range strings.Split(string(doc), "\n") {
		if rest, ok := strings.CutPrefix(l, "| `"); ok {
			op, _, _ := strings.Cut(rest, "`")
			got = append(got, op)
		}
	}
	slices.Sort(got)
	require.Equal(t, sdkOperations(), got)
}
