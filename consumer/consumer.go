// Package consumer reads a stream and hands its records to a handler, shard by
// shard, in order, at least once.
//
// A Consumer is one worker of a group; the workers of a group, in one process
// or in many, divide the shards of the stream among themselves, take over
// those of a worker that has died, and hand shards over when a worker joins.
// For each shard the group has a row in a checkpoint.Store that says who works
// on it and how far the work is. The store refuses the checkpoints of a worker
// that was overtaken without knowing it.
//
// A batch is checkpointed when the handler returns nil; when it fails, the same
// batch is given again, after a pause, while other shards continue. Nothing is
// skipped, unless Options limits the attempts and says what happens to the
// record then.
//
// A shard that came from a split or merge is read only when everything in its
// parents has been handled, so the order of a partition key's records holds
// over reshardings. Aggregated records are de-aggregated.
package consumer

import (
	"context"
	"fmt"
	"sync"

	"github.com/shardlog/shardlog"
)

// Consumer is one worker of a group. Make one with New, start it with Run. Its
// methods are safe for concurrent use, also from inside a handler and the
// callbacks in Options.
type Consumer struct {
	src  shardlog.Source
	opts Options

	assign func(*run) assigner

	pauses pauses

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
	return &Consumer{src: src, opts: o, assign: newLeases}, nil
}

// Run reads the stream and calls h until the consumer is stopped. It can
// be called once, and blocks until everything that it started has ended.
//
// When ctx ends, Run does what Shutdown does, with Options.ShutdownTimeout as
// the time that handlers have; it returns nil after that and after Shutdown,
// and an error that matches shardlog.ErrClosed after Close.
//
// A store or source that fails for a time does not end Run, and neither does
// the loss of a shard to another worker. What does, after a shutdown of the
// other shards, with an *shardlog.Error that names the shard: retention that
// has overtaken the checkpoint (shardlog.ErrExpired, see Options.OnTrimmed) and
// damaged records (shardlog.ErrCorrupt), both unless Options.ParkFailed is set;
// a stream that was deleted (shardlog.ErrNotFound); one that was deleted and
// created again, so that the group's progress is of another stream
// (shardlog.ErrConflict, see Forget and shardlog.Identified); another worker that uses the same WorkerID
// (ErrLeaseLost); and a source or store that is closed or refuses what it is
// given.
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
	return c.finish(ctx, r)
}

// finish does the work of r until it ends, in the calling goroutine.
func (c *Consumer) finish(ctx context.Context, r *run) error {
	defer close(r.done)
	defer r.goroutines.Leave(r.goroutines.Enter())
	unwatch := context.AfterFunc(ctx, func() { r.stop(c.opts.ShutdownTimeout) })
	defer unwatch()
	r.assigner.Run(r.reading)
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
	c.run = newRun(ctx, c.src, &c.opts, h, &c.pauses, c.assign)
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
// would be waiting for itself, Shutdown starts the same and returns nil
// immediately; handlers then have Options.ShutdownTimeout instead of ctx. That holds
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
		return c.fault("shutdown", shardlog.ContextError(ctx))
	}
}

// Close gives up: it cancels the contexts of the handlers with the cause
// shardlog.ErrClosed and returns immediately, without waiting and without a
// checkpoint; what was under way is delivered again to the next worker. Run
// returns as soon as the handlers have. Close always returns nil and may be
// called more than once.
func (c *Consumer) Close() error {
	if r := c.close(); r != nil {
		r.giveUp()
	}
	return nil
}
