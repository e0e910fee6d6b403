package stream

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/shard"
)

// streamShard is a shard as its stream sees it. It never changes: a call that changes
// the shard puts another into the routes, with shape held. Lim and ctr have locks
// of their own.
type streamShard struct {
	s      *logstore.Shard
	handle *shard.Shard // what users get; the same as long as the shard exists
	meta   shardMeta
	lim    *limiter
	ctr    *counters
	// Janitor's: times of the newest records and of closing that are to come.
	recordsAhead, closingAhead aheadTime
}

// aheadTime is the latest time seen that was noted while the clock was ahead.
type aheadTime struct {
	ms   int64 // Unix milliseconds
	seen time.Time
}

// believed returns a time in Unix milliseconds, or, if it is still to come, when
// it was first seen: or what was noted while the clock was ahead would last until
// the clock is there again.
func (a *aheadTime) believed(ms int64, now time.Time) int64 {
	if ms <= now.UnixMilli() {
		return ms
	}
	if ms > a.ms {
		a.ms, a.seen = ms, now
	}
	return a.seen.UnixMilli()
}

func (sh *streamShard) index() uint32 { return sh.s.ID().Shard }

func (sh *streamShard) info() shardlog.ShardInfo {
	i := sh.s.Info()
	info := shardlog.ShardInfo{
		ID: sh.s.Name(), HashStart: sh.meta.Start, HashEnd: sh.meta.End,
		First: i.First, Closed: sh.meta.Closed, Created: sh.meta.createdAt(),
	}
	if sh.meta.Closed {
		if info.Last = i.Last; i.Last == i.First {
			info.Last = shardlog.NewSequenceNumber(sh.meta.Created, sh.index(), sh.meta.Base+1, sh.meta.Created)
		}
	}
	for _, p := range sh.meta.Parents {
		info.Parents = append(info.Parents, shardlog.ShardID(p))
	}
	return info
}

// routes are the shards of a stream at one moment. They never change, so readers
// need no lock.
type routes struct {
	all  []*streamShard // by index, which puts parents before children
	open []*streamShard // by hash key range, without gaps or overlaps
	// starts are the first hash keys of open[1:], as pairs of 64-bit words, for
	// the search in place, and targets the shards of open: with very many shards
	// a record costs less if what it does not need is not looked at.
	starts  [][2]uint64
	targets []*logstore.Shard
	limited bool // some of open have limits of writes
}

func newRoutes(all []*streamShard) *routes {
	r := &routes{all: all}
	sort.Slice(r.all, func(i, j int) bool { return r.all[i].index() < r.all[j].index() })
	for _, sh := range r.all {
		if !sh.meta.Closed {
			r.open = append(r.open, sh)
		}
	}
	sort.Slice(r.open, func(i, j int) bool { return r.open[i].meta.Start.Compare(r.open[j].meta.Start) < 0 })
	for i, sh := range r.open {
		if hi, lo := sh.meta.Start.Words(); i > 0 {
			r.starts = append(r.starts, [2]uint64{hi, lo})
		}
		r.targets = append(r.targets, sh.s)
		r.limited = r.limited || sh.lim != nil && sh.lim.writes
	}
	return r
}

// route returns the open shard of a hash key.
func (r *routes) route(k shardlog.HashKey) *streamShard { return r.open[r.place(k)] }

// place returns which of open is the shard of a hash key.
func (r *routes) place(k shardlog.HashKey) int {
	hi, lo := k.Words()
	i, j := 0, len(r.starts) // the shard is one of open[i:j+1]
	for i < j {
		h := int(uint(i+j) >> 1)
		if s := &r.starts[h]; s[0] < hi || s[0] == hi && s[1] <= lo {
			i = h + 1
		} else {
			j = h
		}
	}
	return i
}

// current returns the stream's view of a shard, or nil if
// retention has removed it.
func (r *routes) current(s *logstore.Shard) *streamShard {
	i := sort.Search(len(r.all), func(i int) bool { return r.all[i].index() >= s.ID().Shard })
	if i < len(r.all) && r.all[i].s == s {
		return r.all[i]
	}
	return nil
}

// byShard returns the stream's view of a shard that is listed.
func (r *routes) byShard(s *logstore.Shard) *streamShard {
	i := sort.Search(len(r.all), func(i int) bool { return r.all[i].index() >= s.ID().Shard })
	return r.all[i]
}

// find returns the shard with the ID, or nil.
func (r *routes) find(id string) *streamShard {
	i := sort.Search(len(r.all), func(i int) bool { return r.all[i].s.Name() >= id })
	if i < len(r.all) && r.all[i].s.Name() == id {
		return r.all[i]
	}
	return nil
}

// children returns the IDs of the shards that a split or merge of the one with
// the index created.
func (r *routes) children(index uint32) (ids []string) {
	for _, sh := range r.all {
		for _, p := range sh.meta.Parents {
			if p == index {
				ids = append(ids, sh.s.Name())
			}
		}
	}
	return ids
}

// hasParent reports whether a shard that m was made from is still listed.
func (r *routes) hasParent(sh *streamShard) bool {
	for _, p := range sh.meta.Parents {
		if r.find(shardlog.ShardID(p)) != nil {
			return true
		}
	}
	return false
}

// hashKey returns where a record belongs.
func (h Hash) hashKey(r *shardlog.Record) shardlog.HashKey {
	switch {
	case r.ExplicitHashKey.IsSet():
		return r.ExplicitHashKey
	case h == XXHash:
		// The upper 64 bits choose the shard; the rest need only depend on them.
		sum := xxhash.Sum64String(r.PartitionKey)
		return shardlog.NewHashKey(sum, bits.ReverseBytes64(sum))
	}
	return shardlog.KeyHash(r.PartitionKey)
}

// cachedKey is hashKey of a valid record.
func (h Hash) cachedKey(r *shardlog.Record, known *hashCache) shardlog.HashKey {
	if h != MD5 || r.ExplicitHashKey.IsSet() {
		return h.hashKey(r)
	}
	k, _ := known.keyHash(r.PartitionKey)
	return k
}

// evenRanges divides the hash keys into n ranges as Kinesis does: each has
// floor(2^128/n) keys, and the last one takes the remainder. It returns where each
// begins.
func evenRanges(n int) []shardlog.HashKey {
	if n == 1 {
		return []shardlog.HashKey{shardlog.NewHashKey(0, 0)}
	}
	// 2^128 / n by long division, one 64-bit word at a time.
	sizeHi, rem := bits.Div64(1, 0, uint64(n))
	sizeLo, _ := bits.Div64(rem, 0, uint64(n))
	starts := make([]shardlog.HashKey, n)
	for i := range starts {
		hi, lo := bits.Mul64(sizeLo, uint64(i))
		starts[i] = shardlog.NewHashKey(hi+sizeHi*uint64(i), lo)
	}
	return starts
}

// middle returns the first key of the upper half of a range.
func middle(start, end shardlog.HashKey) shardlog.HashKey {
	sh, sl := start.Words()
	eh, el := end.Words()
	// (start + end) / 2 + 1 without losing the carry.
	lo, c := bits.Add64(sl, el, 0)
	hi, c2 := bits.Add64(sh, eh, c)
	lo = lo>>1 | hi<<63
	hi = hi>>1 | c2<<63
	lo, c = bits.Add64(lo, 1, 0)
	return shardlog.NewHashKey(hi+c, lo)
}

// counters count what a logstore.Shard does not. They outlive a streamShard that
// is replaced.
type counters struct {
	writeThrottles, readThrottles atomic.Int64
	behind                        atomic.Int64 // of the last page read, nanoseconds
}

// covers returns an error if the hash key of record i is not in the shard's
// range.
func (sh *streamShard) covers(i int, k shardlog.HashKey) error {
	if k.Compare(sh.meta.Start) < 0 || k.Compare(sh.meta.End) > 0 {
		return fmt.Errorf("%w: records[%d] has hash key %v, the shard has %v to %v", shardlog.ErrWrongShard, i, k, sh.meta.Start, sh.meta.End)
	}
	return nil
}

// check returns an error unless the open shards cover each hash key once.
func (r *routes) check() error {
	if len(r.open) == 0 {
		return errors.New("no open shard")
	}
	want := shardlog.NewHashKey(0, 0)
	for i, sh := range r.open {
		if sh.meta.Start != want {
			return fmt.Errorf("%s begins at hash key %v, expected %v", sh.s.Name(), sh.meta.Start, want)
		}
		var more bool
		if want, more = sh.meta.End.Next(); more != (i+1 < len(r.open)) {
			return fmt.Errorf("%s ends at hash key %v", sh.s.Name(), sh.meta.End)
		}
	}
	return nil
}
