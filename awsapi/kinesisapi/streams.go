package kinesisapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

func createStream(c *call) error {
	name := c.in.str("StreamName")
	c.name = name
	set := settings{Warm: c.in.integer("WarmThroughputMiBps")}
	shards := int(c.in.integer("ShardCount"))
	mode := get[params](c.in, "StreamModeDetails").str("StreamMode")
	switch {
	case mode == modeOnDemand && shards > 0:
		return invalid("ShardCount must not be specified when StreamMode is %s.", modeOnDemand)
	case mode == modeProvisioned && shards == 0:
		return invalid("ShardCount must be specified when StreamMode is %s.", modeProvisioned)
	case shards == 0:
		mode, shards = modeOnDemand, c.h.opts.DefaultShards
	}
	if set.Mode = mode; mode == modeProvisioned {
		set.Mode = ""
	}
	if set.Warm > 0 && mode != modeOnDemand {
		return invalid("WarmThroughputMiBps can only be specified for streams in %s mode.", modeOnDemand)
	}
	tags, err := c.newTags(nil, "create stream")
	if err != nil {
		return err
	}
	if _, err := c.h.find(c.ctx, c.scope, name); !isNotFound(err) {
		if err == nil {
			err = c.exists(name)
		}
		return err
	}
	if err := c.checkShards(shards); err != nil {
		return err
	}
	cfg := stream.Config{Shards: shards, Limits: c.h.opts.Limits, Tags: tags}
	cfg.MaxRecordSize = int(c.in.integer("MaxRecordSizeInKiB")) << 10
	id, _ := json.Marshal(identity{c.scope.account, c.scope.region, name}) // strings always encode
	text, _ := json.Marshal(&set)
	cfg.Attributes = map[string]string{attrIdentity: string(id), attrSettings: string(text)}
	return c.create(name, cfg)
}

// create makes the stream, under another name if its own is taken by another
// account or region.
func (c *call) create(name string, cfg stream.Config) error {
	// A name that looks as if it were made for another account is stored as
	// one that was, so that it does not take the place of the other's.
	var st *stream.Stream
	err := shardlog.ErrExists
	if !looksMangled(name) {
		st, err = c.h.db.Create(c.ctx, name, cfg)
	}
	if errors.Is(err, shardlog.ErrExists) {
		if other, e := c.h.db.Stream(c.ctx, name); e == nil && c.h.stateOf(other).visible(c.scope, name) {
			return c.exists(name)
		}
		st, err = c.h.db.Create(c.ctx, c.scope.mangled(name), cfg)
	}
	if errors.Is(err, shardlog.ErrExists) {
		return c.exists(name)
	}
	if err != nil {
		return err
	}
	c.h.begin(c.h.stateOf(st), statusCreating, c.h.opts.CreateTime)
	return nil
}

func isNotFound(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.code == codeNotFound
}

func (c *call) exists(name string) error {
	return fault(codeInUse, "Stream %s under account %s already exists.", name, c.scope.account)
}

// openShards counts those of the account in the region.
func (c *call) openShards() (n, onDemand int, err error) {
	all, err := c.owned()
	for _, s := range all {
		n += s.st.Info().OpenShards
		if s.settings.Load().Mode == modeOnDemand {
			onDemand++
		}
	}
	return n, onDemand, err
}

// checkShards refuses more shards than the account may have.
func (c *call) checkShards(more int) error {
	have, _, err := c.openShards()
	if err != nil || have+more <= c.h.opts.ShardLimit {
		return err
	}
	return fault(codeLimit, "This request would exceed the shard limit for the account %s in %s. Current shard count for the account: %d. Limit: %d. "+
		"Number of additional shards that would have resulted from this request: %d. Refer to the AWS Service Limits page "+
		"(http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits.",
		c.scope.account, c.scope.region, have, c.h.opts.ShardLimit, more)
}

// owned returns the streams of the request's account and region, by name.
func (c *call) owned() ([]*streamState, error) {
	streams, err := c.h.db.Streams(c.ctx)
	if err != nil {
		return nil, err
	}
	var all []*streamState
	for _, st := range streams {
		s := c.h.stateOf(st)
		if s.visible(c.scope, s.id.Name) && c.h.settle(c.ctx, s) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *streamState) int { return cmp.Compare(a.id.Name, b.id.Name) })
	return all, nil
}

func deleteStream(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	s.control.Lock()
	defer s.control.Unlock()
	now := c.h.now()
	if s.status(now) == statusDeleting {
		return c.notActive(statusDeleting)
	}
	if len(s.list(now)) > 0 && !get[bool](c.in, "EnforceConsumerDeletion") {
		return fault(codeInUse, "Stream %s under account %s has active consumers. Deregister them or set EnforceConsumerDeletion.", c.name, c.scope.account)
	}
	lasts, before := c.h.opts.DeleteTime, s.change.Load()
	s.change.Store(&transition{statusDeleting, now.Add(lasts)})
	s.endAll()
	if lasts <= 0 {
		err := c.h.remove(context.WithoutCancel(c.ctx), s)
		if err != nil {
			s.change.Store(before) // it is as it was
		}
		return err
	}
	c.h.deleteLater(s, lasts)
	return nil
}

// deleteLater ends a deletion when its time has come, or the handler is
// closed, even if nobody asks for the stream.
func (h *Handler) deleteLater(s *streamState, lasts time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		timer := time.NewTimer(lasts)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-h.quit.Done():
		}
		// The stream is to go, whatever a request thinks meanwhile; if the
		// database fails it is there again when it is opened anew.
		if err := h.remove(context.Background(), s); err != nil && h.opts.Logger != nil {
			h.opts.Logger.Error("kinesisapi: a stream was not deleted", "stream", s.st.Name(), "error", err)
		}
	}()
}

// hours returns a retention as Kinesis counts it.
func hours(d time.Duration) int64 {
	if d == stream.Forever {
		d = stream.MaxRetention
	}
	return int64((d + time.Hour - 1) / time.Hour)
}

// description writes the members that the two Describe operations share.
func (c *call) description(s *streamState, info *stream.Info, set *settings) {
	e := &c.out
	e.strField("StreamName", c.name)
	e.strField("StreamARN", c.scope.arn(c.name))
	e.strField("StreamStatus", s.status(c.h.now()))
	e.key("StreamModeDetails")
	e.open()
	e.strField("StreamMode", set.mode())
	e.close()
	e.intField("RetentionPeriodHours", hours(info.Retention))
	e.timeField("StreamCreationTimestamp", info.Created.Truncate(time.Second))
	e.key("EnhancedMonitoring")
	e.list()
	e.open()
	e.strings("ShardLevelMetrics", set.Metrics)
	e.close()
	e.endList()
	e.strField("EncryptionType", set.encryption())
	e.optional("KeyId", set.KeyID)
}

func describeStream(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	shards, err := c.shardsAfter(s, c.in.str("ExclusiveStartShardId"))
	if err != nil {
		return err
	}
	limit := int(c.in.integer("Limit"))
	if limit == 0 || limit > 100 {
		limit = 100
	}
	if s.status(c.h.now()) == statusCreating {
		shards = nil
	}
	more := len(shards) > limit
	if more {
		shards = shards[:limit]
	}
	info := s.st.Info()
	c.out.open()
	c.out.key("StreamDescription")
	c.out.open()
	c.description(s, &info, s.settings.Load())
	c.shards(shards)
	c.out.boolField("HasMoreShards", more)
	c.out.close()
	c.out.close()
	return nil
}

func describeStreamSummary(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	info, set, e := s.st.Info(), s.settings.Load(), &c.out
	e.open()
	e.key("StreamDescriptionSummary")
	e.open()
	c.description(s, &info, set)
	e.intField("OpenShardCount", int64(info.OpenShards))
	e.intField("ConsumerCount", int64(len(s.list(c.h.now()))))
	e.intField("MaxRecordSizeInKiB", int64(info.MaxRecordSize>>10))
	if set.Mode == modeOnDemand {
		c.warmThroughput(set)
	}
	e.close()
	e.close()
	return nil
}

func (c *call) warmThroughput(set *settings) {
	c.out.key("WarmThroughput")
	c.out.open()
	c.out.intField("TargetMiBps", set.Warm)
	c.out.intField("CurrentMiBps", set.Warm)
	c.out.close()
}

func listStreams(c *call) error {
	after := c.in.str("ExclusiveStartStreamName")
	if t := c.in.str("NextToken"); t != "" {
		tok, err := c.h.openPage(t, pageStreams)
		if err != nil {
			return err
		}
		after = tok.after
	}
	all, err := c.owned()
	if err != nil {
		return err
	}
	from, found := slices.BinarySearchFunc(all, after, func(s *streamState, name string) int { return strings.Compare(s.id.Name, name) })
	if found {
		from++
	}
	all = all[from:]
	limit := int(c.in.integer("Limit"))
	if limit == 0 {
		limit = 100
	}
	more := len(all) > limit
	if more {
		all = all[:limit]
	}
	e := &c.out
	e.open()
	e.key("StreamNames")
	e.list()
	for _, s := range all {
		e.str(s.id.Name)
	}
	e.endList()
	e.boolField("HasMoreStreams", more)
	if more {
		e.strField("NextToken", c.h.sealPage(page{kind: pageStreams, after: all[len(all)-1].id.Name}))
	}
	e.key("StreamSummaries")
	e.list()
	for _, s := range all {
		e.open()
		e.strField("StreamName", s.id.Name)
		e.strField("StreamARN", c.scope.arn(s.id.Name))
		e.strField("StreamStatus", s.status(c.h.now()))
		e.key("StreamModeDetails")
		e.open()
		e.strField("StreamMode", s.settings.Load().mode())
		e.close()
		e.timeField("StreamCreationTimestamp", s.st.Info().Created.Truncate(time.Second))
		e.close()
	}
	e.endList()
	e.close()
	return nil
}
