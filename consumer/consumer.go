// Package consumer reads a stream and hands its records to a handler, shard by
// shard, in order, at least once.
//
// A Consumer is one worker of a group. For each shard the group has a row in a
// checkpoint.Store that says how far the work is. A batch is checkpointed when
// the handler returns nil; when it fails, the same batch is given again, after
// a pause, and never skipped, while other shards go on. A worker that starts
// takes every shard of the group over: the store refuses the checkpoints of
// the older worker from then on, and its Run returns ErrLeaseLost.
//
// A shard that came from a split or merge is read only when everything in its
// parents has been handled, so the order of a partition key's records holds
// over reshardings.
package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
)

// Consumer is one worker of a group. Make one with New, start it with Run. Its
// methods are safe for concurrent use, also from inside a handler and the
// callbacks in Options.
type Consumer struct {
	src  shardlog.Source
	opts Options

	mu     sync.Mutex
	closed bool
	run    *run // nil before Run
}

// New makes a consumer that reads src. It neither reads nor writes anything.
// Opts are copied; nil stands for the defaults, which are enough for a source
// that names its stream and its store (see Options). The error joins one
// *shardlog.InvalidError for each option that is out of its limits.
func New(src shardlog.Source, opts *Options) (*Consumer, error) {
	o, err := resolve(src, opts)
	if err != nil {
		return nil, err
	}
	return &Consumer{src: src, opts: o}, nil
}

// Run reads the stream and calls h until the consumer is told to stop. It can
// be called once, and blocks until everything that it started has ended.
//
// When ctx ends, Run does what Shutdown does, with Options.ShutdownTimeout as
// the time that handlers have; it returns nil after that and after Shutdown,
// and an error that matches shardlog.ErrClosed after Close.
//
// A store or source that fails for a time does not end Run. What does, after a
// shutdown of the other shards, with an *shardlog.Error that names the shard:
// a checkpoint that another worker has overtaken (ErrLeaseLost), retention that
// has overtaken the checkpoint (shardlog.ErrExpired, see Options.OnTrimmed),
// damaged records (shardlog.ErrCorrupt), a stream that was deleted
// (shardlog.ErrNotFound), or was deleted and made again (shardlog.ErrConflict),
// and a source or store that is closed or refuses what it is given.
//
// Handlers that do not return within 5 s after their context was cancelled
// are left behind; Run then returns an error that matches ErrHandlerStuck.
func (c *Consumer) Run(ctx context.Context, h Handler) error {
	if h == nil {
		return &shardlog.InvalidError{Field: "Handler", Value: h, Limit: "set"}
	}
	r, err := c.begin(ctx, h)
	if err != nil {
		return err
	}
	defer close(r.done)
	defer r.enter()()
	unwatch := context.AfterFunc(ctx, func() { r.stop(c.opts.ShutdownTimeout) })
	defer unwatch()
	r.supervise()
	r.drain()
	return r.result()
}

// begin makes the one run of c.
func (c *Consumer) begin(ctx context.Context, h Handler) (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, c.fault("run", shardlog.ErrClosed)
	}
	if c.run != nil {
		return nil, c.fault("run", fmt.Errorf("%w: Run was called before", shardlog.ErrConflict))
	}
	c.run = newRun(ctx, c.src, &c.opts, h)
	return c.run, nil
}

func (c *Consumer) fault(op string, err error) error {
	return &shardlog.Error{Op: op, Stream: c.opts.Stream, Err: err}
}

// close marks c so that Run cannot start any more.
func (c *Consumer) close() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.run
}

// Shutdown stops reading, waits until the running handlers have returned, lets
// what they did be checkpointed and the shards be released, and returns nil
// when Run is about to return. When ctx ends first, the contexts of the
// handlers are cancelled with the cause ErrShutdown and Shutdown returns ctx's
// error; Run still writes what the handlers say they have done.
//
// Called from inside a handler or a callback of this consumer, where waiting
// would be waiting for itself, Shutdown starts the same and returns nil at
// once; handlers then have Options.ShutdownTimeout instead of ctx. That holds
// for other goroutines too if ctx comes from a handler's context.
//
// Shutdown may be called more than once. Before Run it makes Run fail with
// shardlog.ErrClosed.
func (c *Consumer) Shutdown(ctx context.Context) error {
	r := c.close()
	if r == nil {
		return nil
	}
	if r.inside(ctx) {
		r.stop(c.opts.ShutdownTimeout)
		return nil
	}
	r.stop(0)
	select {
	case <-r.done:
		return nil
	default:
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		r.interrupt(ErrShutdown)
		return c.fault("shutdown", context.Cause(ctx))
	}
}

// Close gives up: it cancels the contexts of the handlers with the cause
// shardlog.ErrClosed and returns at once, without waiting and without a
// checkpoint; what was under way is delivered again to the next worker. Run
// returns as soon as the handlers have. Close always returns nil and may be
// called more than once.
func (c *Consumer) Close() error {
	if r := c.close(); r != nil {
		r.giveUp()
	}
	return nil
}

// Stats describes a consumer at one moment.
type Stats struct {
	// WorkerID is the name under which the consumer holds its shards.
	WorkerID string
	// Shards has an entry for each shard that Run has seen, sorted by ID.
	Shards []ShardStats
}

// ShardStats describes the work on one shard, since Run began.
type ShardStats struct {
	// ShardID names the shard.
	ShardID string
	// Epoch is the fencing token of the shard's lease; 0 when this consumer
	// did not take it.
	Epoch uint64
	// Delivered is how many records the handler is done with.
	Delivered uint64
	// Checkpoint is what the store has; it may be behind Delivered by
	// Options.CheckpointEvery.
	Checkpoint shardlog.Position
	// Behind and BehindRecords tell how far the last page read was behind the
	// newest record of the shard, as shardlog.Page has them.
	Behind        time.Duration
	BehindRecords int64
	// Attempts is how often the batch at hand was given to the handler; 0
	// when there is none.
	Attempts int
	// Failures is how many calls of the handler did not succeed.
	Failures uint64
	// Blocked says why the shard does not go on, such as "parent
	// shardId-000000000000" or "handler, attempt 3: ..."; "" when it does.
	Blocked string
	// Ended is set when the shard is closed and everything in it was done.
	Ended bool
}

// Stats returns the state of each shard. It does not block, and returns no
// shards before Run.
func (c *Consumer) Stats() Stats {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	s := Stats{WorkerID: c.opts.WorkerID}
	if r == nil {
		return s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sh := range r.shards {
		s.Shards = append(s.Shards, sh.stats)
	}
	slices.SortFunc(s.Shards, func(a, b ShardStats) int { return strings.Compare(a.ShardID, b.ShardID) })
	return s
}
