package stream

import (
	"fmt"

	"github.com/shardlog/shardlog"
)

// misrouted has the ranges of records that were refused because they are not
// inside the record's shard.
type misrouted struct{ ranges []shardlog.HashRange }

// maxMisrouted is how many ranges are kept; those above are joined with the last.
const maxMisrouted = 32

// check refuses a record whose range is not inside its shard, and one that
// follows a refused one and may have a key in common with it: stored now, it would
// overtake the other.
func (f *misrouted) check(sh *streamShard, key shardlog.HashKey, r shardlog.HashRange) error {
	outside := r.First.Compare(sh.meta.Start) < 0 || r.Last.Compare(sh.meta.End) > 0
	// The record's own key counts, wherever its range is.
	if key.Compare(r.First) < 0 {
		r.First = key
	}
	if key.Compare(r.Last) > 0 {
		r.Last = key
	}
	behind := false
	for i := 0; i < len(f.ranges) && !behind; i++ {
		o := &f.ranges[i]
		behind = r.First.Compare(o.Last) <= 0 && o.First.Compare(r.Last) <= 0
	}
	if !outside && !behind {
		return nil
	}
	if len(f.ranges) < maxMisrouted {
		f.ranges = append(f.ranges, r)
	} else {
		last := &f.ranges[maxMisrouted-1]
		if r.First.Compare(last.First) < 0 {
			last.First = r.First
		}
		if r.Last.Compare(last.Last) > 0 {
			last.Last = r.Last
		}
	}
	if outside {
		return fmt.Errorf("%w: keys %v to %v on a shard of %v to %v", shardlog.ErrWrongShard, r.First, r.Last, sh.meta.Start, sh.meta.End)
	}
	return shardlog.ErrNotTried
}
