package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
)

// Pause stops the delivery of some shards, or of all that there are and will
// be when none is named. A batch that is with the handler is not affected. The
// shards stay with this worker, and are read ahead as far as
// Options.PrefetchBytes allows. It does not block, and may be called before
// Run.
func (c *Consumer) Pause(shardIDs ...string) { c.setPaused(true, shardIDs) }

// Resume undoes Pause. When no shard is named it undoes every Pause.
func (c *Consumer) Resume(shardIDs ...string) { c.setPaused(false, shardIDs) }

func (c *Consumer) setPaused(paused bool, ids []string) {
	p := &c.pauses
	p.update(func() {
		if len(ids) == 0 {
			p.all = paused
			if !paused {
				clear(p.shards)
			}
		}
		for _, id := range ids {
			if p.shards == nil {
				p.shards = map[string]bool{}
			}
			p.shards[id] = paused
		}
	})
}

// Seek lets a shard continue from another position, before or after the present
// one, and stores that as its checkpoint. It waits for the batch that is with
// the handler, and then for the store. Latest and a time are resolved first.
//
// The error matches ErrLeaseNotHeld when this consumer does not have the shard
// or gives it back first, ErrLeaseLost when it loses it meanwhile,
// shardlog.ErrInvalid for a position that names a number of another shard,
// shardlog.ErrConflict when a later Seek of the shard replaced this one, and is
// otherwise the source's, the store's or that of ctx. Called from inside a
// handler it would wait for itself; the error matches shardlog.ErrUnsupported
// then.
//
// A Seek that returned an error has no effect, now or later, unless the error
// matches shardlog.ErrUnknownOutcome too: then the store was being written when
// ctx ended or the shard was lost, and the position may be the new one.
func (c *Consumer) Seek(ctx context.Context, shardID string, pos shardlog.Position) error {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	fault := func(err error) error {
		return &shardlog.Error{Op: "seek", Stream: c.opts.Stream, Shard: shardID, Err: err}
	}
	if r == nil {
		return fault(ErrLeaseNotHeld)
	}
	if r.inside(ctx) {
		return fault(fmt.Errorf("%w: from inside a handler", shardlog.ErrUnsupported))
	}
	if err := checkSeek(c.src, pos); err != nil {
		return fault(err)
	}
	page, err := c.src.Read(ctx, shardlog.ReadRequest{ShardID: shardID, From: pos, MaxRecords: 1})
	if err != nil {
		return fault(err)
	}
	if rank(pos) == 0 && pos.Kind() != shardlog.KindTrimHorizon && len(page.Records) > 0 {
		pos = shardlog.At(page.Records[0].Sequence)
	} else if pos.Kind() == shardlog.KindLatest {
		pos = page.Next
	}
	d := r.dutyOf(shardID)
	if !d.working() {
		return fault(ErrLeaseNotHeld)
	}
	s := &seek{d: d, pos: pos, done: make(chan struct{})}
	c.pauses.update(func() {
		if c.pauses.seeks == nil {
			c.pauses.seeks = map[string]*seek{}
		}
		if old := c.pauses.seeks[shardID]; old != nil {
			old.err = shardlog.ErrConflict // a later one replaces it
			close(old.done)
		}
		c.pauses.seeks[shardID] = s
	})
	if err := c.pauses.await(ctx, s); err != nil {
		return fault(err)
	}
	return nil
}

// Lag is how far a consumer is behind.
type Lag struct {
	// Records is how many stored records follow what was read, in all shards
	// that this consumer has. Those that wait in memory for the handler are
	// not in it.
	Records int64
	// Behind is the largest time by which a shard is behind its newest record.
	Behind time.Duration
}

// Lag returns how far the shards that this consumer has are behind, as their
// last reads told. It does not block.
func (c *Consumer) Lag() Lag {
	var l Lag
	for _, s := range c.Stats().Shards {
		if s.Owner == c.opts.WorkerID {
			l.Records += s.BehindRecords
			l.Behind = max(l.Behind, s.Behind)
		}
	}
	return l
}

// Blocked is a shard that does not advance.
type Blocked struct {
	// ShardID names the shard.
	ShardID string
	// Why says what it waits for.
	Why string
	// Since is since when. A handler that fails again and again keeps its
	// first time.
	Since time.Time
}

// Blocked returns the shards that do not advance, sorted by ID: those of this
// consumer, those that wait for a parent, and those that no worker has. A
// handler that has not returned for longer than Options.LeaseTTL counts too.
// It does not block, and returns nothing before Run.
func (c *Consumer) Blocked() []Blocked {
	var out []Blocked
	for _, s := range c.Stats().Shards {
		why, at := s.Blocked, s.BlockedSince
		if busy := s.InHandlerSince; why == "" && !busy.IsZero() && time.Since(busy) > c.opts.LeaseTTL {
			why, at = "the handler has not returned", busy
		}
		if why != "" && !s.Ended {
			out = append(out, Blocked{ShardID: s.ShardID, Why: why, Since: at})
		}
	}
	slices.SortFunc(out, func(a, b Blocked) int { return strings.Compare(a.ShardID, b.ShardID) })
	return out
}

// Stats returns the state of the consumer and of each shard. It does not
// block, and returns no shards before Run.
func (c *Consumer) Stats() Stats {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	s := Stats{WorkerID: c.opts.WorkerID}
	if r == nil {
		return s
	}
	r.fill(&s)
	s.PrefetchedBytes = r.prefetched.Load()
	return s
}
