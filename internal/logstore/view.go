package logstore

import (
	"math"
	"sort"
	"time"

	"github.com/shardlog/shardlog/internal/block"
)

// memBlock is a block in memory: a run, or a recent stored block that is kept for
// tail readers.
type memBlock struct {
	b   block.Block
	ord uint64
	ref *runRef // of a run
	// tried says that a closed run was made a block already, which could not be stored:
	// its memory may have it. It is the committer's.
	tried bool
}

// view is the readable state of a shard at one moment. It never changes; a writer
// replaces it, with Log.mu held, so readers need no lock and block nobody. Slices
// of successive views share memory, which is sound because published elements
// are only ever cut off at the front or appended to. The same holds for the
// memory of run.
type view struct {
	blocks []blockRef // stored blocks in order
	// mem and run have the newest records, contiguous to the end: some of the
	// last stored blocks, then what only the journal has. That is in runs, each
	// of which continues without a gap; the last one grows with each append.
	mem     []*memBlock
	run     memBlock  // the run that grows; its block is zero if there is none
	parts   []partRef // what the runs consist of, but for the last part
	open    partRef   // the last one, which may grow as the run does; none if no run grows
	more    *growth   // how the run has grown since, in place; nil if it cannot
	gaps    int       // how many of mem, the last ones, are runs
	cut     int       // how many were cut off in front of mem, and are still in its memory
	horizon uint64    // no record below it may be read
	last    uint64    // counter of the last record; below the first if none ever was
	lastMs  int64     // its arrival
	stepped bool      // some block arrived before one that precedes it; see believed
	total   uint64    // records since the shard was opened, with those found then
	bytes   int64     // stored bytes of blocks and journal parts
	closed  bool      // nothing will follow last
}

// find returns the block with the record c, or the first one after it; in
// memory if it is there.
func (v *view) find(c uint64) (e blockRef, m *memBlock, ok bool) {
	if !v.run.b.IsZero() && c >= v.run.b.First {
		return v.findInRun(c)
	}
	if len(v.mem) > 0 && (c >= v.mem[0].b.First || len(v.blocks) == 0) {
		i := sort.Search(len(v.mem), func(i int) bool { return v.mem[i].b.End() > c })
		if i == len(v.mem) {
			return v.findInRun(c)
		}
		return blockRef{}, v.mem[i], true
	}
	i := sort.Search(len(v.blocks), func(i int) bool { return v.blocks[i].end() > c })
	switch {
	case i < len(v.blocks):
		return v.blocks[i], nil, true
	case len(v.mem) > 0:
		return blockRef{}, v.mem[0], true
	}
	return v.findInRun(c)
}

func (v *view) findInRun(c uint64) (e blockRef, m *memBlock, ok bool) {
	if v.run.b.IsZero() || v.run.b.End() <= c {
		return blockRef{}, nil, false
	}
	return blockRef{}, &v.run, true
}

// stored returns the stored blocks from the one that e is on, for a reader who
// wants them in order: at most n, and at most about size bytes but at least one.
func (v *view) stored(e *blockRef, n int, size int64) []blockRef {
	i := sort.Search(len(v.blocks), func(i int) bool { return v.blocks[i].first >= e.first })
	j := i
	for ; j < len(v.blocks) && j-i < n; j++ {
		if size -= int64(v.blocks[j].size); size < 0 && j > i {
			break
		}
	}
	return v.blocks[i:j]
}

// findTime returns the first block whose last record arrived at ms or later.
func (v *view) findTime(ms int64) (e blockRef, m *memBlock, ok bool) {
	if v.stepped {
		return v.findBelieved(ms)
	}
	i := sort.Search(len(v.blocks), func(i int) bool { return v.blocks[i].lastMs >= ms })
	if i < len(v.blocks) {
		return v.blocks[i], nil, true
	}
	j := sort.Search(len(v.mem), func(j int) bool { return v.mem[j].b.LastMs >= ms })
	if j < len(v.mem) {
		return blockRef{}, v.mem[j], true
	}
	if !v.run.b.IsZero() && v.run.b.LastMs >= ms {
		return blockRef{}, &v.run, true
	}
	return blockRef{}, nil, false
}

// findBelieved is findTime for a shard whose clock has stepped back.
func (v *view) findBelieved(ms int64) (e blockRef, m *memBlock, ok bool) {
	times := v.believed(time.Now().UnixMilli())
	i := sort.Search(len(times), func(i int) bool { return times[i] >= ms })
	switch n := len(v.blocks); {
	case i < n:
		return v.blocks[i], nil, true
	case i < len(times):
		return v.find(v.allParts()[i-n].end - 1)
	}
	return blockRef{}, nil, false
}

// believed returns when the last record of each block arrived, blocks first and
// then the journal's parts, for a clock that may have been wrong at times. The
// times do not step back. What precedes a record arrived before it, and what
// follows it later, so
//
//   - a time that is earlier than one before it, because the clock was behind,
//     counts as that one: what is young is not taken for old;
//   - a time that is later than now, because the clock was ahead, counts as the
//     next one that is not. If none follows it stays, and retention counts from
//     when it sees it.
func (v *view) believed(now int64) []int64 {
	parts := v.allParts()
	times := make([]int64, 0, len(v.blocks)+len(parts))
	for i := range v.blocks {
		times = append(times, v.blocks[i].lastMs)
	}
	for i := range parts {
		times = append(times, parts[i].lastMs())
	}
	latest := int64(math.MinInt64)
	for i, t := range times {
		if t <= now {
			latest = max(latest, t)
			times[i] = latest
		}
	}
	for i := len(times) - 2; i >= 0; i-- {
		times[i] = min(times[i], times[i+1])
	}
	return times
}

// after returns how many records have counter c or a later one.
func (v *view) after(c uint64) int64 {
	e, m, ok := v.find(max(c, v.horizon))
	if !ok {
		return 0
	}
	first, ord := e.first, e.ord
	if m != nil {
		first, ord = m.b.First, m.ord
	}
	if c > first {
		ord += c - first
	}
	return int64(v.total - ord)
}
