package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// pauses says which shards are not to be delivered now, and which are to be
// delivered from elsewhere.
type pauses struct {
	mu     sync.Mutex
	all    bool
	shards map[string]bool
	seeks  map[string]*seek
	change chan struct{} // closed and replaced at each change
}

// seek is a request to go on from another position.
type seek struct {
	// t is the task that was asked. A later task of the shard must not carry
	// the request out, because the caller was told that it failed.
	t    *task
	pos  shardlog.Position
	done chan struct{} // closed when err is set
	err  error
}

// changed returns a channel that the next change closes.
func (p *pauses) changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.change == nil {
		p.change = make(chan struct{})
	}
	return p.change
}

func (p *pauses) update(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	if p.change != nil {
		close(p.change)
		p.change = nil
	}
}

func (p *pauses) paused(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all || p.shards[id]
}

// wants tells whether obey has something to do for a shard.
func (p *pauses) wants(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all || p.shards[id] || p.seeks[id] != nil
}

// take returns the seek that waits for a task, and removes it.
func (p *pauses) take(t *task) *seek {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seeks[t.id]
	if s == nil || s.t != t {
		return nil
	}
	delete(p.seeks, t.id)
	return s
}

// withdraw removes a seek that no task has begun to carry out. False means
// that one has, or that a later seek has replaced it.
func (p *pauses) withdraw(s *seek) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seeks[s.t.id] != s {
		return false
	}
	delete(p.seeks, s.t.id)
	return true
}

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

// Seek lets a shard go on from another position, before or after the present
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
	var t *task
	r.update(shardID, func(sh *shard) { t = sh.task })
	if !t.working() {
		return fault(ErrLeaseNotHeld)
	}
	s := &seek{t: t, pos: pos, done: make(chan struct{})}
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

// await waits until a seek is carried out, or makes sure that it will not be.
func (p *pauses) await(ctx context.Context, s *seek) error {
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		if p.withdraw(s) {
			return shardlog.ContextError(ctx)
		}
		select {
		case <-s.done:
			return s.err
		default:
			return fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, shardlog.ContextError(ctx))
		}
	case <-s.t.storing.Done():
		if !p.withdraw(s) {
			<-s.done // soon: the task writes no more
			return s.err
		}
		switch cause := context.Cause(s.t.storing); {
		case errors.Is(cause, context.Canceled):
			return ErrLeaseNotHeld // the task gave the shard back
		default:
			return cause
		}
	}
}

// obey does what Pause and Seek ask for, before each batch. It returns false
// when the reading was stopped.
func (t *task) obey() (again bool, err error) {
	for t.reading.Err() == nil {
		t.change = t.r.pauses.changed() // before looking, so that none is missed
		if s := t.r.pauses.take(t); s != nil {
			s.err = t.seekTo(s.pos)
			close(s.done)
			if errors.Is(s.err, ErrLeaseLost) {
				return false, s.err
			}
		}
		if !t.r.pauses.paused(t.id) {
			return true, nil
		}
		if err := t.save(); err != nil {
			return false, err
		}
		t.blocked("paused")
		select {
		case <-t.change:
			t.blocked("")
		case <-t.reading.Done():
		}
	}
	return false, nil
}

// seekTo makes pos the checkpoint and reads from there.
func (t *task) seekTo(pos shardlog.Position) error {
	<-t.lock
	err := t.lease.Commit(func(l *checkpoint.Lease) {
		l.Checkpoint, l.Switches, l.Prepared, l.PreparedState = pos, 0, nil, nil
	})
	if err == nil {
		t.pos = pos
		t.seeks++
	}
	t.free()
	if err != nil {
		return err
	}
	t.fetch.stop()
	t.rest, t.chunk = nil, nil
	t.fetch = t.fetchFrom(pos)
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

// Blocked is a shard that does not go on.
type Blocked struct {
	// ShardID names the shard.
	ShardID string
	// Why says what it waits for.
	Why string
	// Since is since when. A handler that fails again and again keeps its
	// first time.
	Since time.Time
}

// Blocked returns the shards that do not go on, sorted by ID: those of this
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
