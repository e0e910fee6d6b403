package kinesisapi

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// createStream carries out CreateStream. What Kinesis keeps about a stream is
// written together with it, so a crash leaves both or neither.
func createStream(c *call) error {
	name := c.In.Text("StreamName")
	c.name = name
	set := settings{Warm: c.In.Int("WarmThroughputMiBps")}
	shards := int(c.In.Int("ShardCount"))
	mode := awswire.Get[awswire.Params](c.In, "StreamModeDetails").Text("StreamMode")
	switch {
	case mode == modeOnDemand && shards > 0:
		return invalid("ShardCount must not be specified when StreamMode is %s.", modeOnDemand)
	case mode == modeProvisioned && shards == 0:
		return invalid("ShardCount must be specified when StreamMode is %s.", modeProvisioned)
	case shards == 0:
		mode, shards = modeOnDemand, c.svc.opts.DefaultShards
	}
	if set.Mode = mode; mode == modeProvisioned {
		set.Mode = ""
	}
	if set.Warm > 0 && mode != modeOnDemand {
		return invalid("WarmThroughputMiBps can only be specified for streams in %s mode.", modeOnDemand)
	}
	if set.Strategy = c.In.Text("RecordDistributionStrategy"); set.Strategy != strategyAuto {
		set.Strategy = ""
	} else if mode != modeOnDemand {
		return strategyNeedsOnDemand()
	}
	tags, err := mergeTags(c, nil, "create stream")
	if err != nil {
		return err
	}
	if _, err := c.svc.streams.find(c.Ctx, c.Scope, name, c.Clock()); !isNotFound(err) {
		if err == nil {
			err = streamExists(c.Scope, name)
		}
		return err
	}
	if err := c.svc.growth.Lock(c.Ctx); err != nil {
		return err
	}
	defer c.svc.growth.Unlock()
	if err := checkShardLimit(c, shards); err != nil {
		return err
	}
	cfg := stream.Config{Shards: shards, Limits: c.svc.opts.Limits, Tags: tags}
	cfg.MaxRecordSize = int(c.In.Int("MaxRecordSizeInKiB")) << 10
	id, _ := json.Marshal(identity{c.Scope.Account, c.Scope.Region, name}) // strings always encode
	text, _ := json.Marshal(&set)
	cfg.Attributes = map[string]string{attrIdentity: string(id), attrSettings: string(text)}
	s, err := c.svc.streams.create(c.Ctx, c.Scope, name, cfg)
	if err == nil {
		s.beginHiding(statusCreating, c.svc.opts.CreateTime, c.Clock(), 0)
	}
	return err
}

// countOpenShards counts the open shards of the account in the region, and its
// on-demand streams.
func countOpenShards(c *call) (n, onDemand int, err error) {
	all, err := c.svc.streams.owned(c.Ctx, c.Scope, c.Clock())
	for _, s := range all {
		n += s.st.Info().OpenShards
		if s.settings.Load().Mode == modeOnDemand {
			onDemand++
		}
	}
	return n, onDemand, err
}

// checkShardLimit refuses more shards than the account may have; growth is held.
func checkShardLimit(c *call, more int) error {
	have, _, err := countOpenShards(c)
	if err != nil || have+more <= c.svc.opts.ShardLimit {
		return err
	}
	return awswire.Errorf(codeLimit, "This request would exceed the shard limit for the account %s in %s. Current shard count for the account: %d. Limit: %d. "+
		"Number of additional shards that would have resulted from this request: %d. Refer to the AWS Service Limits page "+
		"(http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits.",
		c.Scope.Account, c.Scope.Region, have, c.svc.opts.ShardLimit, more)
}

// deleteStream carries out DeleteStream.
func deleteStream(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	if err := s.control.Lock(c.Ctx); err != nil {
		return err
	}
	defer s.control.Unlock()
	if s.status(c.Clock()) == statusDeleting {
		return notActive(c.Scope, c.name, statusDeleting)
	}
	if len(s.consumers.list(c.Clock())) > 0 && !awswire.Get[bool](c.In, "EnforceConsumerDeletion") {
		return awswire.Errorf(codeInUse, "Stream %s under account %s has active consumers. Deregister them or set EnforceConsumerDeletion.", c.name, c.Scope.Account)
	}
	// The state is set first, so that requests that come meanwhile find the
	// stream being deleted.
	lasts, before := c.svc.opts.DeleteTime, s.change.Load()
	next := &transition{status: statusDeleting, began: c.Clock().Moment(), lasts: lasts, shown: math.MaxUint32}
	if before != nil && !before.over(c.Clock()) {
		next.shown = before.shown // what was to come does not come any more
	}
	s.change.Store(next)
	s.subscriptions.endAll()
	// Where the endpoint was closed meanwhile, nothing would carry the deletion
	// out later, and the client has to be able to rely on it.
	if lasts <= 0 || !c.deleteLater(s, lasts) {
		err := c.svc.streams.remove(context.WithoutCancel(c.Ctx), s)
		if err != nil {
			s.change.Store(before) // the stream is still there
		}
		return err
	}
	return nil
}

// hours returns a retention in hours, rounded up. Kinesis has no streams that
// keep records for ever, so those show the longest period.
func hours(d time.Duration) int64 {
	if d == stream.Forever {
		d = stream.MaxRetention
	}
	return int64((d + time.Hour - 1) / time.Hour)
}

// writeDescription writes the members that the two Describe operations share.
func writeDescription(c *call, s *streamState, info *stream.Info, set *settings) {
	e := &c.Out
	e.TextField("StreamName", c.name)
	e.TextField("StreamARN", streamARN(c.Scope, c.name))
	e.TextField("StreamStatus", s.status(c.Clock()))
	e.Key("StreamModeDetails")
	e.Open()
	e.TextField("StreamMode", set.mode())
	e.Close()
	e.IntField("RetentionPeriodHours", hours(info.Retention))
	e.TimeField("StreamCreationTimestamp", info.Created.Truncate(time.Second))
	e.Key("EnhancedMonitoring")
	e.List()
	e.Open()
	e.TextsField("ShardLevelMetrics", set.Metrics)
	e.Close()
	e.EndList()
	e.TextField("EncryptionType", set.encryption())
	e.OptionalText("KeyId", set.KeyID)
}

// describeStream carries out DescribeStream.
func describeStream(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	shards, err := shardsAfter(c, s, c.In.Text("ExclusiveStartShardId"))
	if err != nil {
		return err
	}
	limit := int(c.In.Int("Limit"))
	if limit == 0 || limit > 100 {
		limit = 100
	}
	more := len(shards) > limit
	if more {
		shards = shards[:limit]
	}
	info := s.st.Info()
	c.Out.Open()
	c.Out.Key("StreamDescription")
	c.Out.Open()
	writeDescription(c, s, &info, s.settings.Load())
	writeShards(&c.Out, shards)
	c.Out.BoolField("HasMoreShards", more)
	c.Out.Close()
	c.Out.Close()
	return nil
}

// describeStreamSummary carries out DescribeStreamSummary.
func describeStreamSummary(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	open, err := s.openShards(c.Ctx, c.Clock())
	if err != nil {
		return err
	}
	info, set, e := s.st.Info(), s.settings.Load(), &c.Out
	e.Open()
	e.Key("StreamDescriptionSummary")
	e.Open()
	writeDescription(c, s, &info, set)
	e.IntField("OpenShardCount", int64(open))
	e.IntField("ConsumerCount", int64(len(s.consumers.list(c.Clock()))))
	e.IntField("ChannelCount", 0)
	e.IntField("MaxRecordSizeInKiB", int64(info.MaxRecordSize>>10))
	// AWS has it for on-demand streams only. The Kinesis Producer Library asks for
	// it, and waits and warns where it is not there.
	e.TextField("RecordDistributionStrategy", cmp.Or(set.Strategy, strategyUserKey))
	if set.Mode == modeOnDemand {
		writeWarmThroughput(c, set)
	}
	e.Close()
	e.Close()
	return nil
}

// writeWarmThroughput writes the member WarmThroughput: what was asked for is
// there immediately.
func writeWarmThroughput(c *call, set *settings) {
	c.Out.Key("WarmThroughput")
	c.Out.Open()
	c.Out.IntField("TargetMiBps", set.Warm)
	c.Out.IntField("CurrentMiBps", set.Warm)
	c.Out.Close()
}

// listStreams carries out ListStreams. A page continues after a name, so streams
// that come and go between two pages do no harm.
func listStreams(c *call) error {
	after := c.In.Text("ExclusiveStartStreamName")
	if t := c.In.Text("NextToken"); t != "" {
		tok, err := c.openPage(t, pageStreams)
		if err != nil {
			return err
		}
		after = tok.after
	}
	all, err := c.svc.streams.owned(c.Ctx, c.Scope, c.Clock())
	if err != nil {
		return err
	}
	from, found := slices.BinarySearchFunc(all, after, func(s *streamState, name string) int { return strings.Compare(s.id.Name, name) })
	if found {
		from++
	}
	all = all[from:]
	limit := int(c.In.Int("Limit"))
	if limit == 0 {
		limit = 100
	}
	more := len(all) > limit
	if more {
		all = all[:limit]
	}
	e := &c.Out
	e.Open()
	e.Key("StreamNames")
	e.List()
	for _, s := range all {
		e.Text(s.id.Name)
	}
	e.EndList()
	e.BoolField("HasMoreStreams", more)
	if more {
		e.TextField("NextToken", c.svc.tokens.sealPage(pageToken{made: c.Clock().Moment(), kind: pageStreams, account: c.Scope.Account, region: c.Scope.Region, after: all[len(all)-1].id.Name}))
	}
	e.Key("StreamSummaries")
	e.List()
	for _, s := range all {
		e.Open()
		e.TextField("StreamName", s.id.Name)
		e.TextField("StreamARN", streamARN(c.Scope, s.id.Name))
		e.TextField("StreamStatus", s.status(c.Clock()))
		e.Key("StreamModeDetails")
		e.Open()
		e.TextField("StreamMode", s.settings.Load().mode())
		e.Close()
		e.TimeField("StreamCreationTimestamp", s.st.Info().Created.Truncate(time.Second))
		e.Close()
	}
	e.EndList()
	e.Close()
	return nil
}
