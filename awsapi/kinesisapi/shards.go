package kinesisapi

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// resolveShard returns the canonical form of the shard ID of a request, and its
// index.
func resolveShard(sc awswire.Scope, id, stream string) (string, uint32, error) {
	index, ok := shardIndex(id)
	if !ok {
		return "", 0, noShard(sc, id, stream)
	}
	return shardID(index), index, nil
}

// shardsAfter returns all shards of a stream that follow one. IDs have one
// length, so they are in order as text.
func shardsAfter(c *call, s *streamState, after string) ([]shardlog.ShardInfo, error) {
	all, err := s.listed(c.Ctx, c.Clock())
	if err != nil || after == "" {
		return all, err
	}
	id, _, err := resolveShard(c.Scope, after, c.name)
	if err != nil {
		return nil, err
	}
	from := sort.Search(len(all), func(i int) bool { return all[i].ID > id })
	return all[from:], nil
}

// listShards carries out ListShards. A token stands for all members but the
// limit, so that the pages of a list are of one stream and filtered alike.
func listShards(c *call) error {
	p := pageToken{filter: shardFilter{}.String()}
	token := c.In.Text("NextToken")
	switch {
	case token != "" && (c.In.Has("StreamName") || c.In.Has("StreamARN")):
		return invalid("NextToken and StreamName cannot be provided together.")
	case token != "" && (c.In.Has("ExclusiveStartShardId") || c.In.Has("StreamCreationTimestamp") || c.In.Has("ShardFilter")):
		return invalid("NextToken cannot be provided together with ExclusiveStartShardId, StreamCreationTimestamp or ShardFilter.")
	case token != "":
		var err error
		if p, err = c.openPage(token, pageShards); err != nil {
			return err
		}
		if err := c.enter(awswire.Scope{Account: p.account, Region: p.region}, p.stream); err != nil {
			return err
		}
	case !c.In.Has("StreamName") && !c.In.Has("StreamARN"):
		return invalid("Either NextToken or StreamName should be provided.")
	default:
		p.stream, p.after = c.In.Text("StreamName"), c.In.Text("ExclusiveStartShardId")
		f, err := readShardFilter(c)
		if err != nil {
			return err
		}
		p.filter = f.String()
	}
	s, err := c.streamBy(p.stream, c.In.Text("StreamARN"))
	if err != nil {
		return err
	}
	if token != "" && p.ofID != s.idHash {
		return noStream(c.Scope, c.name) // that of the token was deleted
	}
	info := s.st.Info()
	if t := awswire.Get[time.Time](c.In, "StreamCreationTimestamp"); !t.IsZero() && t.Unix() != info.Created.Unix() {
		return noStream(c.Scope, c.name)
	}
	if s.status(c.Clock()) == statusCreating {
		return notActive(c.Scope, c.name, statusCreating)
	}
	all, err := s.listed(c.Ctx, c.Clock())
	if err != nil {
		return err
	}
	f := parseFilter(p.filter)
	if f.after != "" {
		if _, _, err := resolveShard(c.Scope, f.after, c.name); err != nil {
			return err
		}
	}
	all = f.apply(all, &info, time.Now())
	if p.after != "" {
		id, _, err := resolveShard(c.Scope, p.after, c.name)
		if err != nil {
			return err
		}
		all = all[sort.Search(len(all), func(i int) bool { return all[i].ID > id }):]
	}
	limit := int(c.In.Int("MaxResults"))
	if limit == 0 {
		limit = 1000
	}
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = c.svc.tokens.sealPage(pageToken{made: c.Clock().Moment(), kind: pageShards, account: c.Scope.Account, region: c.Scope.Region, stream: c.name, ofID: s.idHash,
			after: all[limit-1].ID, filter: p.filter})
	}
	c.Out.Open()
	writeShards(&c.Out, all)
	c.Out.OptionalText("NextToken", next)
	c.Out.Close()
	return nil
}

// findOpenShard returns a shard that is to be split or merged.
func findOpenShard(c *call, all []shardlog.ShardInfo, id string) (*shardlog.ShardInfo, error) {
	for i := range all {
		if all[i].ID != id {
			continue
		}
		if all[i].Closed {
			return nil, invalid("Shard %s in stream %s under account %s has already been merged or split, and thus is not eligible for merging or splitting.", id, c.name, c.Scope.Account)
		}
		return &all[i], nil
	}
	return nil, noShard(c.Scope, id, c.name)
}

// splitShard carries out SplitShard. The order of its checks is that of AWS.
func splitShard(c *call) error {
	if err := checkShardIDs(c, c.In.Text("ShardToSplit")); err != nil {
		return err
	}
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	id, _, err := resolveShard(c.Scope, c.In.Text("ShardToSplit"), c.name)
	if err != nil {
		return err
	}
	if err := checkProvisioned(c, s); err != nil {
		return err
	}
	all, err := s.st.Shards(c.Ctx)
	if err != nil {
		return err
	}
	sh, err := findOpenShard(c, all, id)
	if err != nil {
		return err
	}
	if err := c.svc.growth.Lock(c.Ctx); err != nil {
		return err
	}
	defer c.svc.growth.Unlock()
	if err := checkShardLimit(c, 1); err != nil {
		return err
	}
	given := c.In.Text("NewStartingHashKey")
	key, err := shardlog.ParseHashKey(given)
	low, _ := sh.HashStart.Next()
	if err != nil || key.Compare(low) <= 0 || key.Compare(sh.HashEnd) >= 0 {
		return invalid("NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not both greater than one plus the shard's "+
			"StartingHashKey %v and less than the shard's EndingHashKey %v.", given, id, c.name, c.Scope.Account, sh.HashStart, sh.HashEnd)
	}
	return s.reshape(c, all, func() error {
		_, err := s.st.Split(c.Ctx, id, key)
		return err
	})
}

// checkShardIDs refuses texts that cannot be shard IDs. AWS does that before it
// looks for the stream, so the error is the same without one.
func checkShardIDs(c *call, ids ...string) error {
	name := c.In.Text("StreamName")
	if p, ok := parseARN(c.In.Text("StreamARN")); ok {
		name = p.stream
	}
	for _, id := range ids {
		if _, _, err := resolveShard(c.Scope, id, name); err != nil {
			return err
		}
	}
	return nil
}

// checkProvisioned refuses to change the shards of an on-demand stream (API
// reference, SplitShard, MergeShards and UpdateShardCount).
func checkProvisioned(c *call, s *streamState) error {
	if s.settings.Load().Mode == modeOnDemand {
		return awswire.Errorf(awswire.CodeValidation, "Request is invalid. Stream %s under account %s is in On-Demand mode.", c.name, c.Scope.Account)
	}
	return nil
}

// mergeShards carries out MergeShards. The lower shard has to be the first, as on
// AWS.
func mergeShards(c *call) error {
	given := []string{c.In.Text("ShardToMerge"), c.In.Text("AdjacentShardToMerge")}
	if err := checkShardIDs(c, given...); err != nil {
		return err
	}
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	if err := checkProvisioned(c, s); err != nil {
		return err
	}
	all, err := s.st.Shards(c.Ctx)
	if err != nil {
		return err
	}
	var found [2]*shardlog.ShardInfo
	for i, id := range given {
		id, _, err := resolveShard(c.Scope, id, c.name)
		if err == nil {
			found[i], err = findOpenShard(c, all, id)
		}
		if err != nil {
			return err
		}
	}
	a, b := found[0], found[1]
	if next, more := a.HashEnd.Next(); !more || next != b.HashStart {
		return invalid("Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging", a.ID, b.ID, c.name, c.Scope.Account)
	}
	return s.reshape(c, all, func() error {
		_, err := s.st.Merge(c.Ctx, a.ID, b.ID)
		return err
	})
}

// scalingsPerDay is how often UpdateShardCount may be called in 24 hours (API
// reference). It holds with Options.ControlLimits.
const scalingsPerDay = 10

// updateShardCount carries out UpdateShardCount. The call is recorded before the
// stream is resharded, so that one that fails half way counts as well.
func updateShardCount(c *call) error {
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	set, target := s.settings.Load(), int(c.In.Int("TargetShardCount"))
	current := s.st.Info().OpenShards
	if err := checkProvisioned(c, s); err != nil {
		return err
	}
	switch {
	case target > 2*current:
		return awswire.Errorf(codeLimit, "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: %d Target shard count: %d", current, target)
	case 2*target < current:
		return awswire.Errorf(codeLimit, "UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: %d Target shard count: %d", current, target)
	case target > stream.MaxShards:
		return awswire.Errorf(codeLimit, "UpdateShardCount cannot scale a stream over %d shards.", stream.MaxShards)
	}
	if target > current {
		if err := c.svc.growth.Lock(c.Ctx); err != nil {
			return err
		}
		defer c.svc.growth.Unlock()
		if err := checkShardLimit(c, target-current); err != nil {
			return err
		}
	}
	recent := lastDay(set.Scalings, c.Clock())
	if c.svc.opts.ControlLimits && len(recent) >= scalingsPerDay {
		return awswire.Errorf(codeLimit, "UpdateShardCount cannot be called more than %d times per stream in 24 hours.", scalingsPerDay)
	}
	// Without ControlLimits there may be any number of calls, but no more than
	// these are stored.
	if n := len(recent); n >= scalingsPerDay {
		recent = recent[n-scalingsPerDay+1:]
	}
	if err := s.updateSettings(c.Ctx, func(next *settings) { next.Scalings = append(recent, c.Clock().Moment()) }); err != nil {
		return err
	}
	all, err := s.st.Shards(c.Ctx)
	if err != nil {
		return err
	}
	err = s.reshape(c, all, func() error {
		// A client that goes away must not leave the stream between two numbers
		// of shards.
		err := s.st.Reshard(context.WithoutCancel(c.Ctx), target)
		if errors.Is(err, shardlog.ErrInvalid) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	e := &c.Out
	e.Open()
	e.TextField("StreamName", c.name)
	e.IntField("CurrentShardCount", int64(current))
	e.IntField("TargetShardCount", int64(target))
	e.TextField("StreamARN", streamARN(c.Scope, c.name))
	e.Close()
	return nil
}

const (
	minRetentionHours = 24
	maxRetentionHours = 8760
)

// changeRetention carries out the two operations on the retention period; longer
// is for the one that increases it.
func changeRetention(c *call, longer bool) error {
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	want := c.In.Int("RetentionPeriodHours")
	info := s.st.Info()
	have := hours(info.Retention)
	switch {
	case want < minRetentionHours:
		return invalid("Minimum allowed retention period is %d hours. Requested retention period (%d hours) is too short.", minRetentionHours, want)
	case want > maxRetentionHours:
		return invalid("Maximum allowed retention period is %d hours. Requested retention period (%d hours) is too long.", maxRetentionHours, want)
	case longer && want < have:
		return invalid("Requested retention period (%d hours) for stream %s can not be shorter than existing retention period (%d hours). Use DecreaseRetentionPeriod API.", want, c.name, have)
	case !longer && want > have:
		return invalid("Requested retention period (%d hours) for stream %s can not be longer than existing retention period (%d hours). Use IncreaseRetentionPeriod API.", want, c.name, have)
	case want == have:
		return nil
	}
	if err := s.st.SetRetention(c.Ctx, time.Duration(want)*time.Hour, info.RetentionBytes); err != nil {
		return err
	}
	s.begin(statusUpdating, c.svc.opts.UpdateTime, c.Clock())
	return nil
}

func increaseRetention(c *call) error { return changeRetention(c, true) }

func decreaseRetention(c *call) error { return changeRetention(c, false) }
