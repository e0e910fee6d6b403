package kinesisapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// shardID returns the canonical form of a shard's index.
func shardID(index uint32) string {
	var b [32]byte
	s := append(b[:0], "shardId-000000000000"...)
	for i := len(s) - 1; index > 0; i-- {
		s[i] += byte(index % 10)
		index /= 10
	}
	return string(s)
}

// shardIndex reads a shard ID, which may be without its zeros and its prefix.
func shardIndex(id string) (uint32, bool) {
	digits := id
	if parts := strings.SplitN(id, "-", 3); len(parts) > 1 && parts[1] != "" {
		digits = parts[1]
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	return uint32(n), err == nil
}

// resolveShard returns the canonical form of the shard ID of a request.
func (c *call) resolveShard(id, stream string) (string, uint32, error) {
	index, ok := shardIndex(id)
	if !ok {
		return "", 0, c.scope.noShard(id, stream)
	}
	return shardID(index), index, nil
}

// shardsAfter returns all shards of a stream behind one.
func (c *call) shardsAfter(s *streamState, after string) ([]shardlog.ShardInfo, error) {
	all, err := s.st.Shards(c.ctx)
	if err != nil || after == "" {
		return all, err
	}
	id, _, err := c.resolveShard(after, c.name)
	if err != nil {
		return nil, err
	}
	from := sort.Search(len(all), func(i int) bool { return all[i].ID > id })
	return all[from:], nil
}

// shards writes the member Shards.
func (c *call) shards(list []shardlog.ShardInfo) {
	e := &c.out
	e.key("Shards")
	e.list()
	for i := range list {
		e.shard(&list[i])
	}
	e.endList()
}

func (e *encoder) hashRange(s *shardlog.ShardInfo) {
	e.key("HashKeyRange")
	e.open()
	e.strField("StartingHashKey", s.HashStart.String())
	e.strField("EndingHashKey", s.HashEnd.String())
	e.close()
}

func (e *encoder) shard(s *shardlog.ShardInfo) {
	e.open()
	e.strField("ShardId", s.ID)
	for i, p := range s.Parents {
		e.strField([...]string{"ParentShardId", "AdjacentParentShardId"}[min(i, 1)], p)
	}
	e.hashRange(s)
	e.key("SequenceNumberRange")
	e.open()
	e.key("StartingSequenceNumber")
	e.sequence(s.First)
	if s.Closed {
		e.key("EndingSequenceNumber")
		e.sequence(lastNumber(s))
	}
	e.close()
	e.close()
}

// lastNumber is what AWS calls the last number of a closed shard: the largest
// that it could have given.
func lastNumber(s *shardlog.ShardInfo) shardlog.SequenceNumber {
	index, _ := s.First.Shard()
	return shardlog.NewSequenceNumber(s.Created.Unix(), index, shardlog.MaxCounter, arrivalOf(s.Last))
}

// The parts of a number that the log gave out, and which are therefore known.
// Times are in seconds.

func counterOf(n shardlog.SequenceNumber) uint64 {
	c, _ := n.Counter()
	return c
}

func createdOf(n shardlog.SequenceNumber) int64 {
	t, _ := n.Created()
	return t.Unix()
}

func arrivalOf(n shardlog.SequenceNumber) int64 {
	t, _ := n.Arrival()
	return t.Unix()
}

// children writes the member ChildShards.
func (c *call) children(e *encoder, s *streamState, ids []string) error {
	all, err := s.st.Shards(c.ctx)
	if err != nil {
		return err
	}
	e.key("ChildShards")
	e.list()
	for i := range all {
		if !slices.Contains(ids, all[i].ID) {
			continue
		}
		e.open()
		e.strField("ShardId", all[i].ID)
		e.strings("ParentShards", all[i].Parents)
		e.hashRange(&all[i])
		e.close()
	}
	e.endList()
	return nil
}

// filter chooses shards by when they were open.
type filter struct {
	kind  string
	at    time.Time
	after string
}

func (c *call) filter() (f filter, err error) {
	p := get[params](c.in, "ShardFilter")
	if p == nil {
		return f, nil
	}
	f = filter{kind: p.str("Type"), at: get[time.Time](p, "Timestamp"), after: p.str("ShardId")}
	switch timed := strings.HasSuffix(f.kind, "_TIMESTAMP"); {
	case timed && f.at.IsZero():
		err = invalid("Timestamp must be specified when ShardFilter's type is %s.", f.kind)
	case !timed && p.has("Timestamp"):
		err = invalid("Timestamp must not be specified when ShardFilter's type is %s.", f.kind)
	case f.kind == "AFTER_SHARD_ID" && f.after == "":
		err = invalid("ShardId must be specified when ShardFilter's type is %s.", f.kind)
	case f.kind != "AFTER_SHARD_ID" && f.after != "":
		err = invalid("ShardId must not be specified when ShardFilter's type is %s.", f.kind)
	case timed && f.at.After(c.h.now()):
		err = invalid("The timestamp of ShardFilter cannot be in the future.")
	}
	return f, err
}

// String is the form in which page tokens carry it.
func (f filter) String() string { return fmt.Sprintf("%s/%d/%s", f.kind, f.at.UnixMicro(), f.after) }

func parseFilter(s string) (f filter) {
	parts := strings.SplitN(s, "/", 3)
	us, _ := strconv.ParseInt(parts[1], 10, 64) // our own text
	return filter{kind: parts[0], at: time.UnixMicro(us), after: parts[2]}
}

// apply returns the shards that the filter lets pass. A shard is open from its
// creation until that of its children.
func (f filter) apply(all []shardlog.ShardInfo, info *stream.Info, now time.Time) []shardlog.ShardInfo {
	closed := map[string]time.Time{}
	for i := range all {
		for _, p := range all[i].Parents {
			closed[p] = all[i].Created
		}
	}
	at, onwards := f.at, strings.HasPrefix(f.kind, "FROM_")
	switch f.kind {
	case "AFTER_SHARD_ID":
		index, _ := shardIndex(f.after)
		from := sort.Search(len(all), func(i int) bool { return all[i].ID > shardID(index) })
		return all[from:]
	case "AT_LATEST":
		return slices.DeleteFunc(slices.Clone(all), func(s shardlog.ShardInfo) bool { return s.Closed })
	case "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON":
		at = time.Time{}
	case "AT_TIMESTAMP", "FROM_TIMESTAMP":
	default:
		return all
	}
	// Before the horizon there is nothing but what was there at the horizon.
	horizon := info.Created
	if h := now.Add(-info.Retention); info.Retention != stream.Forever && h.After(horizon) {
		horizon = h
	}
	if at.Before(horizon) {
		at = horizon
	}
	at = at.Truncate(time.Second) // as creations are
	return slices.DeleteFunc(slices.Clone(all), func(s shardlog.ShardInfo) bool {
		end, over := closed[s.ID]
		return over && !end.After(at) || !onwards && s.Created.After(at)
	})
}

func listShards(c *call) error {
	p := page{filter: filter{}.String()}
	token := c.in.str("NextToken")
	switch {
	case token != "" && (c.in.has("StreamName") || c.in.has("StreamARN")):
		return invalid("NextToken and StreamName cannot be provided together.")
	case token != "" && (c.in.has("ExclusiveStartShardId") || c.in.has("StreamCreationTimestamp") || c.in.has("ShardFilter")):
		return invalid("NextToken cannot be provided together with ExclusiveStartShardId, StreamCreationTimestamp or ShardFilter.")
	case token != "":
		var err error
		if p, err = c.h.openPage(token, pageShards); err != nil {
			return err
		}
		c.scope = scope{p.account, p.region}
	case !c.in.has("StreamName") && !c.in.has("StreamARN"):
		return invalid("Either NextToken or StreamName should be provided.")
	default:
		p.stream, p.after = c.in.str("StreamName"), c.in.str("ExclusiveStartShardId")
		f, err := c.filter()
		if err != nil {
			return err
		}
		p.filter = f.String()
	}
	s, err := c.streamBy(p.stream, c.in.str("StreamARN"))
	if err != nil {
		return err
	}
	info := s.st.Info()
	if t := get[time.Time](c.in, "StreamCreationTimestamp"); !t.IsZero() && t.Unix() != info.Created.Unix() {
		return c.scope.noStream(c.name)
	}
	if s.status(c.h.now()) == statusCreating {
		return c.notActive(statusCreating)
	}
	all, err := s.st.Shards(c.ctx)
	if err != nil {
		return err
	}
	all = parseFilter(p.filter).apply(all, &info, c.h.now())
	if p.after != "" {
		id, _, err := c.resolveShard(p.after, c.name)
		if err != nil {
			return err
		}
		all = all[sort.Search(len(all), func(i int) bool { return all[i].ID > id }):]
	}
	limit := int(c.in.integer("MaxResults"))
	if limit == 0 {
		limit = 1000
	}
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = c.h.sealPage(page{kind: pageShards, account: c.scope.account, region: c.scope.region, stream: c.name,
			after: all[limit-1].ID, filter: p.filter})
	}
	c.out.open()
	c.shards(all)
	c.out.optional("NextToken", next)
	c.out.close()
	return nil
}

// findShard returns a shard that is to be split or merged.
func (c *call) findShard(all []shardlog.ShardInfo, id string) (*shardlog.ShardInfo, error) {
	for i := range all {
		if all[i].ID != id {
			continue
		}
		if all[i].Closed {
			return nil, invalid("Shard %s in stream %s under account %s has already been merged or split, and thus is not eligible for merging or splitting.", id, c.name, c.scope.account)
		}
		return &all[i], nil
	}
	return nil, c.scope.noShard(id, c.name)
}

func splitShard(c *call) error {
	if err := c.resolvable(c.in.str("ShardToSplit")); err != nil {
		return err
	}
	s, err := c.active()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	id, _, err := c.resolveShard(c.in.str("ShardToSplit"), c.name)
	if err != nil {
		return err
	}
	if err := c.provisioned(s); err != nil {
		return err
	}
	all, err := s.st.Shards(c.ctx)
	if err != nil {
		return err
	}
	sh, err := c.findShard(all, id)
	if err == nil {
		err = c.checkShards(1)
	}
	if err != nil {
		return err
	}
	given := c.in.str("NewStartingHashKey")
	key, err := shardlog.ParseHashKey(given)
	low, _ := sh.HashStart.Next()
	if err != nil || key.Compare(low) <= 0 || key.Compare(sh.HashEnd) >= 0 {
		return invalid("NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not both greater than one plus the shard's "+
			"StartingHashKey %v and less than the shard's EndingHashKey %v.", given, id, c.name, c.scope.account, sh.HashStart, sh.HashEnd)
	}
	if _, err := s.st.Split(c.ctx, id, key); err != nil {
		return err
	}
	c.h.begin(s, statusUpdating, c.h.opts.UpdateTime)
	return nil
}

// resolvable refuses shard IDs that cannot be one before the stream is looked
// for.
func (c *call) resolvable(ids ...string) error {
	name := c.in.str("StreamName")
	if p, ok := parseARN(c.in.str("StreamARN")); ok {
		name = p.stream
	}
	for _, id := range ids {
		if _, _, err := c.resolveShard(id, name); err != nil {
			return err
		}
	}
	return nil
}

// provisioned refuses to change the shards of an on-demand stream (API
// reference, SplitShard, MergeShards and UpdateShardCount).
func (c *call) provisioned(s *streamState) error {
	if s.settings.Load().Mode == modeOnDemand {
		return fault(codeValidation, "Request is invalid. Stream %s under account %s is in On-Demand mode.", c.name, c.scope.account)
	}
	return nil
}

func mergeShards(c *call) error {
	given := []string{c.in.str("ShardToMerge"), c.in.str("AdjacentShardToMerge")}
	if err := c.resolvable(given...); err != nil {
		return err
	}
	s, err := c.active()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	if err := c.provisioned(s); err != nil {
		return err
	}
	all, err := s.st.Shards(c.ctx)
	if err != nil {
		return err
	}
	var found [2]*shardlog.ShardInfo
	for i, id := range given {
		id, _, err := c.resolveShard(id, c.name)
		if err == nil {
			found[i], err = c.findShard(all, id)
		}
		if err != nil {
			return err
		}
	}
	a, b := found[0], found[1]
	if next, more := a.HashEnd.Next(); !more || next != b.HashStart {
		return invalid("Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging", a.ID, b.ID, c.name, c.scope.account)
	}
	if _, err := s.st.Merge(c.ctx, a.ID, b.ID); err != nil {
		return err
	}
	c.h.begin(s, statusUpdating, c.h.opts.UpdateTime)
	return nil
}

// scalingsPerDay is how often UpdateShardCount may be called in 24 hours (API
// reference). It holds with Options.ControlLimits.
const scalingsPerDay = 10

func updateShardCount(c *call) error {
	s, err := c.active()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	set, target := s.settings.Load(), int(c.in.integer("TargetShardCount"))
	current := s.st.Info().OpenShards
	if err := c.provisioned(s); err != nil {
		return err
	}
	switch {
	case target > 2*current:
		return fault(codeLimit, "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: %d Target shard count: %d", current, target)
	case 2*target < current:
		return fault(codeLimit, "UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: %d Target shard count: %d", current, target)
	case target > stream.MaxShards:
		return fault(codeLimit, "UpdateShardCount cannot scale a stream over %d shards.", stream.MaxShards)
	}
	if target > current {
		if err := c.checkShards(target - current); err != nil {
			return err
		}
	}
	now := c.h.now()
	recent := lastDay(set.Scalings, now)
	if c.h.opts.ControlLimits && len(recent) >= scalingsPerDay {
		return fault(codeLimit, "UpdateShardCount cannot be called more than %d times per stream in 24 hours.", scalingsPerDay)
	}
	if n := len(recent); n >= scalingsPerDay {
		recent = recent[n-scalingsPerDay+1:]
	}
	if err := s.update(c.ctx, func(next *settings) { next.Scalings = append(recent, now.UnixMilli()) }); err != nil {
		return err
	}
	if err := s.st.Reshard(context.WithoutCancel(c.ctx), target); err != nil && !errors.Is(err, shardlog.ErrInvalid) {
		return err
	}
	c.h.begin(s, statusUpdating, c.h.opts.UpdateTime)
	e := &c.out
	e.open()
	e.strField("StreamName", c.name)
	e.intField("CurrentShardCount", int64(current))
	e.intField("TargetShardCount", int64(target))
	e.strField("StreamARN", c.scope.arn(c.name))
	e.close()
	return nil
}

const (
	minRetentionHours = 24
	maxRetentionHours = 8760
)

// retention checks what both operations on it do; longer tells which it is.
func (c *call) retention(longer bool) error {
	s, err := c.active()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	want := c.in.integer("RetentionPeriodHours")
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
	if err := s.st.SetRetention(c.ctx, time.Duration(want)*time.Hour, info.RetentionBytes); err != nil {
		return err
	}
	c.h.begin(s, statusUpdating, c.h.opts.UpdateTime)
	return nil
}

func increaseRetention(c *call) error { return c.retention(true) }

func decreaseRetention(c *call) error { return c.retention(false) }
