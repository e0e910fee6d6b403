package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
	"github.com/shardlog/shardlog/internal/reentry"
)

// run is one call of Run: what its parts share. The assigner decides which
// shards this worker has, a task works on each of them, the board shows what
// is done, and the lifetime ends it all.
type run struct {
	*lifetime
	*board
	*notifier
	src  shardlog.Source
	o    *Options
	h    Handler
	read func(context.Context, shardlog.ReadRequest) (shardlog.Page, error)
	// keyRanges is Capabilities.KeyRanges of src.
	keyRanges bool
	assigner  assigner
	pauses    *pauses
	// goroutines are those that may call the user's functions.
	goroutines reentry.Goroutines
	prefetched atomic.Int64 // bytes of records that wait for their handler

	tasks     sync.WaitGroup
	taskEnded chan struct{} // has a token when a task has ended
	done      chan struct{} // closed when Run returns
	parked    parked
}

// parked are shards that are kept although the work on them has ended.
type parked struct {
	mu  sync.Mutex
	all []ownership
}

// runKey finds the run in a handler's context.
type runKey struct{}

func newRun(ctx context.Context, src shardlog.Source, o *Options, h Handler, p *pauses, assign func(*run) assigner) *run {
	r := &run{
		board: newBoard(), notifier: newNotifier(o), src: src, o: o, h: h, pauses: p, read: readFunc(src, o),
		keyRanges: shardlog.CapabilitiesOf(src).KeyRanges,
		taskEnded: make(chan struct{}, 1), done: make(chan struct{}),
	}
	r.lifetime = newLifetime(context.WithValue(ctx, runKey{}, r))
	r.assigner = assign(r)
	return r
}

// inside reports whether the caller is a handler or callback of r, which must
// not wait for r. Ctx shows it when it comes from a handler; the goroutine does
// when it does not.
func (r *run) inside(ctx context.Context) bool {
	return ctx.Value(runKey{}) == r || r.goroutines.Inside()
}

// stop ends reading, and the handlers' contexts after patience; 0 is for ever.
func (r *run) stop(patience time.Duration) {
	r.stopReading(ErrShutdown)
	r.assigner.Leaving()
	if patience > 0 {
		r.after(patience, func() { r.interrupt(ErrShutdown) })
	}
}

// fail records an error that ends the run, and stops it.
func (r *run) fail(shardID string, err error) {
	if e, ok := err.(*shardlog.Error); !ok || (shardID != "" && e.Shard != shardID) {
		err = &shardlog.Error{Op: "consume", Stream: r.o.Stream, Shard: shardID, Err: err}
	}
	r.record(err)
	r.stop(r.o.ShutdownTimeout)
	r.emit(Event{Kind: EventFailed, ShardID: shardID, Err: err})
}

// report is fail for the error with which the work on a shard ended. What did
// not get to the store because of Close is no error of its own.
func (r *run) report(shardID string, err error) {
	if err != nil && !(r.closed() && errors.Is(err, lease.ErrNotWritten)) {
		r.fail(shardID, err)
	}
}

// endTask records that the task of d has ended.
func (r *run) endTask(d *duty) {
	r.remove(d)
	close(d.ended)
	select {
	case r.taskEnded <- struct{}{}:
	default:
	}
}

// drain waits for the tasks, which give their shards back, and leaves the
// group.
func (r *run) drain() {
	ended := make(chan struct{})
	go func() {
		r.tasks.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-r.abandoned:
		r.leaveStuck(ended)
	}
	r.releaseParked()
	r.assigner.Leave()
	r.end()
}

// keep parks a shard until the run ends.
func (r *run) keep(l ownership) {
	r.parked.mu.Lock()
	defer r.parked.mu.Unlock()
	r.parked.all = append(r.parked.all, l)
}

// releaseParked releases the shards that were kept although they failed.
func (r *run) releaseParked() {
	r.parked.mu.Lock()
	all := r.parked.all
	r.parked.mu.Unlock()
	for _, l := range all {
		r.report(l.Shard().ID, l.Release(nil))
		l.Finish()
	}
}

// leaveStuck waits for all tasks but those whose handler does not return, and
// reports these.
func (r *run) leaveStuck(ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		default:
		}
		if ids, others := r.stuck(); !others {
			r.fail("", fmt.Errorf("%w within %v: %s", ErrHandlerStuck, abandonAfter, strings.Join(ids, ", ")))
			return
		}
		select {
		case <-ended:
		case <-r.taskEnded:
		}
	}
}

// result is what Run returns.
func (r *run) result() error {
	errs := r.errors()
	if r.closed() {
		errs = append([]error{&shardlog.Error{Op: "run", Stream: r.o.Stream, Err: context.Cause(r.storing)}}, errs...)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
