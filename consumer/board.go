package consumer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
)

// duty is the work on one shard in one epoch, as others than its task see it.
type duty struct {
	id      string
	epoch   uint64
	storing context.Context // of the lease: ends when the row is not to be written any more
	// finish asks the task to finish the batch and give the shard back.
	finish    func(cause error)
	ended     chan struct{} // closed when the work has ended, although a parked shard is kept
	inHandler int           // calls of the handler that are under way; guarded by board.mu
}

// working reports whether a duty is there and has its shard. One that has lost
// it may still wait for its handler.
func (d *duty) working() bool {
	return d != nil && !errors.Is(context.Cause(d.storing), ErrLeaseLost)
}

// shard is what is known of one shard. Its fields are guarded by board.mu.
type shard struct {
	// duty is the work on the shard; nil when this worker does not have it. One
	// that has lost the shard may still be ending when another one begins.
	duty *duty
	// trouble says why reading does not advance; stats.Blocked is about handling.
	trouble string
	stats   ShardStats
}

// board has what Stats shows: the shards, and what is done with them. The task
// of a shard and the assigner write to it, and anyone may read it.
type board struct {
	// mu is never held during I/O, a callback or a wait.
	mu          sync.Mutex
	shards      map[string]*shard
	active      map[*duty]struct{}
	taken, lost uint64 // leases
	// Of the group, as the assigner last saw it.
	workers, total, needed int
}

func newBoard() *board {
	return &board{shards: map[string]*shard{}, active: map[*duty]struct{}{}}
}

// update changes what is known of a shard.
func (b *board) update(id string, f func(s *shard)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b.shard(id))
}

// shard returns what is known of a shard. The caller holds mu.
func (b *board) shard(id string) *shard {
	s, ok := b.shards[id]
	if !ok {
		s = &shard{stats: ShardStats{ShardID: id}}
		b.shards[id] = s
	}
	return s
}

// dutyOf returns the work on a shard, nil when there is none.
func (b *board) dutyOf(id string) (d *duty) {
	b.update(id, func(s *shard) { d = s.duty })
	return d
}

// add records that the work on a shard begins.
func (b *board) add(d *duty) {
	b.update(d.id, func(s *shard) {
		s.duty = d
		b.active[d] = struct{}{}
	})
}

// remove records that it has ended.
func (b *board) remove(d *duty) {
	b.update(d.id, func(s *shard) {
		delete(b.active, d)
		if s.duty == d {
			s.duty, s.trouble, s.stats.Attempts = nil, "", 0
		}
	})
}

// block sets why a shard does not advance, "" when it does, unless the shard
// has been taken again since.
func (b *board) block(id string, epoch uint64, why string) {
	b.update(id, func(s *shard) {
		if s.stats.Epoch == epoch {
			s.stats.block(why)
		}
	})
}

// stuck returns the shards whose handler is running, and whether other work is
// still under way.
func (b *board) stuck() (ids []string, others bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for d := range b.active {
		if d.inHandler > 0 {
			ids = append(ids, d.id)
		} else {
			others = true
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), others || len(ids) == 0
}

// fill adds what is known of the group and its shards.
func (b *board) fill(s *Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Workers, s.TotalLeases, s.NeededLeases = b.workers, b.total, b.needed
	s.TakenLeases, s.LostLeases = b.taken, b.lost
	for _, sh := range b.shards {
		st := sh.stats
		if st.Blocked == "" {
			st.Blocked = sh.trouble
		}
		if sh.duty.working() {
			s.CurrentLeases++
			s.MillisBehindLatest = max(s.MillisBehindLatest, st.Behind.Milliseconds())
		}
		s.RecordsProcessed += st.Delivered
		s.DataBytesProcessed += st.DeliveredBytes
		s.Shards = append(s.Shards, st)
	}
	slices.SortFunc(s.Shards, func(a, b ShardStats) int { return strings.Compare(a.ShardID, b.ShardID) })
}
