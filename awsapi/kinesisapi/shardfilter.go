package kinesisapi

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// shardFilter chooses shards by when they were open.
type shardFilter struct {
	kind  string
	at    time.Time
	after string
}

// readShardFilter reads ShardFilter, and checks which members go together: the
// model does not say.
func readShardFilter(c *call) (f shardFilter, err error) {
	p := awswire.Get[awswire.Params](c.In, "ShardFilter")
	if p == nil {
		return f, nil
	}
	f = shardFilter{kind: p.Text("Type"), at: awswire.Get[time.Time](p, "Timestamp"), after: p.Text("ShardId")}
	switch timed := strings.HasSuffix(f.kind, "_TIMESTAMP"); {
	case timed && f.at.IsZero():
		err = invalid("Timestamp must be specified when ShardFilter's type is %s.", f.kind)
	case !timed && p.Has("Timestamp"):
		err = invalid("Timestamp must not be specified when ShardFilter's type is %s.", f.kind)
	case f.kind == "AFTER_SHARD_ID" && f.after == "":
		err = invalid("ShardId must be specified when ShardFilter's type is %s.", f.kind)
	case f.kind != "AFTER_SHARD_ID" && f.after != "":
		err = invalid("ShardId must not be specified when ShardFilter's type is %s.", f.kind)
	case timed && f.at.After(c.Clock().Latest()):
		err = invalid("The timestamp of ShardFilter cannot be in the future.")
	}
	return f, err
}

// String returns the form that page tokens have: the pages of a list have to be
// filtered alike.
func (f shardFilter) String() string {
	return fmt.Sprintf("%s/%d/%s", f.kind, f.at.UnixMicro(), f.after)
}

// parseFilter is the inverse of String.
func parseFilter(s string) (f shardFilter) {
	parts := strings.SplitN(s, "/", 3)
	us, _ := strconv.ParseInt(parts[1], 10, 64) // our own text
	return shardFilter{kind: parts[0], at: time.UnixMicro(us), after: parts[2]}
}

// apply returns the shards that the filter lets pass; now is the machine's time.
func (f shardFilter) apply(all []shardlog.ShardInfo, info *stream.Info, now time.Time) []shardlog.ShardInfo {
	switch f.kind {
	case "AFTER_SHARD_ID":
		index, _ := shardIndex(f.after)
		from := sort.Search(len(all), func(i int) bool { return all[i].ID > shardID(index) })
		return all[from:]
	case "AT_LATEST":
		return slices.DeleteFunc(slices.Clone(all), func(s shardlog.ShardInfo) bool { return s.Closed })
	case "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON":
		f.at = time.Time{}
	case "AT_TIMESTAMP", "FROM_TIMESTAMP":
	default:
		return all
	}
	// Shards that were gone before the horizon have no records, so an earlier
	// time means the horizon. Retention follows the machine's clock.
	horizon := info.Created
	if h := now.Add(-info.Retention); info.Retention != stream.Forever && h.After(horizon) {
		horizon = h
	}
	if horizon.After(now) {
		horizon = now
	}
	if f.at.Before(horizon) {
		return f.since(all, horizon, now, true)
	}
	return f.since(all, f.at, now, false)
}

// since returns the shards that were open at a time or, if the filter is one of
// those from a time on, then or later. A shard is open from its creation until
// that of its children. Of shards that follow each other within a millisecond the
// last ones were open in it; but at the horizon it is the first ones, because
// all that is kept is to be found from there.
func (f shardFilter) since(all []shardlog.ShardInfo, at, now time.Time, horizon bool) []shardlog.ShardInfo {
	onwards := strings.HasPrefix(f.kind, "FROM_")
	// A date that is still to come was given when the machine's clock was ahead.
	// What has it is there now. Its parents' records have such dates too, so they
	// are among what is later than any time.
	created := func(s *shardlog.ShardInfo) time.Time {
		switch {
		case !s.Created.After(now):
			return s.Created
		case onwards || horizon:
			return now
		}
		return time.Time{}
	}
	ends := map[string]time.Time{}
	for i := range all {
		for _, p := range all[i].Parents {
			ends[p] = created(&all[i])
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s shardlog.ShardInfo) bool {
		begin := created(&s)
		end, over := ends[s.ID]
		switch {
		case over && (end.Before(at) || end.Equal(at) && !onwards && !horizon):
			return true
		case onwards:
			return false
		}
		return begin.After(at) || begin.Equal(at) && horizon && len(s.Parents) > 0
	})
}
