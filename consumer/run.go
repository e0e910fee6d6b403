package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
	"github.com/shardlog/shardlog/internal/reentry"
)

// abandonAfter is how long Run waits for handlers whose context has ended.
const abandonAfter = 5 * time.Second

// run is one call of Run. It stops in up to three steps, each of which implies
// those before it: stop ends reading; interrupt ends the handlers' contexts;
// abandon ends store calls, and Run no longer waits.
type run struct {
	src  shardlog.Source
	o    *Options
	h    Handler
	read func(context.Context, shardlog.ReadRequest) (shardlog.Page, error)
	// keyRanges is Capabilities.KeyRanges of src.
	keyRanges bool

	reading, handling, storing             context.Context
	stopReading, stopHandling, stopStoring context.CancelCauseFunc

	taskEnded chan struct{} // has a token when a task has ended
	done      chan struct{} // closed when Run returns
	abandoned chan struct{} // closed by abandon
	tasks     sync.WaitGroup
	assigner  assigner
	// goroutines are those that may call the user's functions.
	goroutines reentry.Goroutines
	pauses     *pauses
	fetched    atomic.Int64 // bytes of records that wait for their handler

	// mu is never held during I/O, a callback or a wait.
	mu          sync.Mutex
	errs        []error
	timers      []*time.Timer
	ended       bool // timers are not needed any more
	shards      map[string]*shard
	running     map[*task]struct{}
	parked      []*task // ended, and their shards are kept
	taken, lost uint64  // leases
	// What Stats tells of the group.
	workers, total, needed int
}

// shard is what the run knows of one shard. Its fields are guarded by run.mu.
type shard struct {
	// task works on the shard; nil when this worker does not have it. A task
	// that has lost the shard may still be ending when another one works.
	task *task
	// trouble says why reading does not go on; stats.Blocked is about handling.
	trouble string
	stats   ShardStats
}

func newRun(ctx context.Context, src shardlog.Source, o *Options, h Handler, p *pauses, assign func(*run) assigner) *run {
	r := &run{
		src: src, o: o, h: h, pauses: p,
		taskEnded: make(chan struct{}, 1), done: make(chan struct{}), abandoned: make(chan struct{}),
		shards: map[string]*shard{}, running: map[*task]struct{}{},
	}
	r.read = r.readFunc()
	r.keyRanges = shardlog.CapabilitiesOf(src).KeyRanges
	// The end of ctx stops reading through Run; handlers and checkpoints go on
	// for a while.
	ctx = context.WithoutCancel(ctx)
	r.reading, r.stopReading = context.WithCancelCause(ctx)
	r.storing, r.stopStoring = context.WithCancelCause(ctx)
	r.handling, r.stopHandling = context.WithCancelCause(context.WithValue(ctx, runKey{}, r))
	r.assigner = assign(r)
	return r
}

// stop ends reading, and the handlers' contexts after patience; 0 is for ever.
func (r *run) stop(patience time.Duration) {
	r.stopReading(ErrShutdown)
	r.assigner.Leaving()
	if patience > 0 {
		r.after(patience, func() { r.interrupt(ErrShutdown) })
	}
}

func (r *run) interrupt(cause error) {
	r.stopReading(cause)
	r.stopHandling(cause)
	r.after(abandonAfter, r.abandon)
}

// giveUp is interrupt without time for the store.
func (r *run) giveUp() {
	r.stopStoring(shardlog.ErrClosed)
	r.interrupt(shardlog.ErrClosed)
}

func (r *run) abandon() {
	r.stopStoring(ErrShutdown)
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.abandoned:
	default:
		close(r.abandoned)
	}
}

// after calls f later, unless the run has ended by then.
func (r *run) after(d time.Duration, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.timers = append(r.timers, time.AfterFunc(d, f))
	}
}

// fail records an error that ends the run, and stops it.
func (r *run) fail(shardID string, err error) {
	if e, ok := err.(*shardlog.Error); !ok || (shardID != "" && e.Shard != shardID) {
		err = &shardlog.Error{Op: "consume", Stream: r.o.Stream, Shard: shardID, Err: err}
	}
	r.mu.Lock()
	r.errs = append(r.errs, err)
	r.mu.Unlock()
	r.stop(r.o.ShutdownTimeout)
	r.emit(Event{Kind: EventFailed, ShardID: shardID, Err: err})
}

// report is fail for the error with which the work on a shard ended. What did
// not get to the store because of Close is no error of its own.
func (r *run) report(shardID string, err error) {
	closed := errors.Is(context.Cause(r.storing), shardlog.ErrClosed)
	if err != nil && !(closed && errors.Is(err, lease.ErrNotWritten)) {
		r.fail(shardID, err)
	}
}

// noteTaskEnd lets leaveStuck look again.
func (r *run) noteTaskEnd() {
	select {
	case r.taskEnded <- struct{}{}:
	default:
	}
}

// inside reports whether the caller is a handler or callback of r, which must
// not wait for r. Ctx shows it when it comes from a handler; the goroutine does
// when it does not.
func (r *run) inside(ctx context.Context) bool {
	return ctx.Value(runKey{}) == r || r.goroutines.Inside()
}

// runKey finds the run in a handler's context.
type runKey struct{}

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
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, t := range r.timers {
		t.Stop()
	}
}

// releaseParked releases the shards that were kept although they failed.
func (r *run) releaseParked() {
	r.mu.Lock()
	parked := r.parked
	r.mu.Unlock()
	for _, t := range parked {
		r.report(t.id, t.lease.Release(nil))
		t.lease.Finish()
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
		case <-r.taskEnded: // a task has ended
		}
	}
}

// stuck returns the shards whose handler is running, and whether other tasks
// are still there.
func (r *run) stuck() (ids []string, others bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.running {
		switch id := t.id; {
		case t.inHandler > 0:
			ids = append(ids, id)
		default:
			others = true
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), others || len(ids) == 0
}

// result is what Run returns.
func (r *run) result() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := r.errs
	if cause := context.Cause(r.storing); errors.Is(cause, shardlog.ErrClosed) {
		errs = append([]error{&shardlog.Error{Op: "run", Stream: r.o.Stream, Err: cause}}, errs...)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// update changes what is known of a shard.
func (r *run) update(id string, f func(s *shard)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.shard(id))
}

// shard returns what is known of a shard. The caller holds mu.
func (r *run) shard(id string) *shard {
	s, ok := r.shards[id]
	if !ok {
		s = &shard{stats: ShardStats{ShardID: id}}
		r.shards[id] = s
	}
	return s
}
