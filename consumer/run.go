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

// abandonAfter is how long Run waits for handlers whose context has ended.
const abandonAfter = 5 * time.Second

// run is one call of Run. It stops in up to three steps, each of which implies
// those before it: stop ends reading; interrupt ends the handlers' contexts;
// abandon ends store calls, and Run no longer waits.
type run struct {
	src shardlog.Source
	o   *Options
	h   Handler

	reading, handling, storing             context.Context
	stopReading, stopHandling, stopStoring context.CancelCauseFunc

	wake      chan struct{} // has a token when the shards should be looked at again
	done      chan struct{} // closed when Run returns
	abandoned chan struct{} // closed by abandon
	tasks     sync.WaitGroup

	// These are used by the goroutine of Run only. Initial has the shards that
	// were there when the group began, if this run began it. Seen has the
	// epochs of the rows that the run found when it began; synced is set when
	// it has taken them. Foreign has when a row was first seen that another
	// worker took later.
	initial map[string]bool
	seen    map[string]uint64
	synced  bool
	foreign map[string]time.Time

	// mu is never held during I/O, a callback or a wait.
	mu         sync.Mutex
	errs       []error
	timers     []*time.Timer
	drained    bool // timers are not needed any more
	shards     map[string]*shard
	goroutines map[uint64]struct{}
}

// shard is what the run knows of one shard. Its fields are guarded by run.mu.
type shard struct {
	// held: the row was taken; lease is it, as last written.
	held  bool
	lease checkpoint.Lease
	// started and finished are about the shard's task.
	started, inHandler, finished bool
	// gone: the source does not have the shard any more.
	gone bool
	// lose ends the context of the shard's handler.
	lose  context.CancelCauseFunc
	stats ShardStats
}

func newRun(ctx context.Context, src shardlog.Source, o *Options, h Handler) *run {
	r := &run{
		src: src, o: o, h: h,
		wake: make(chan struct{}, 1), done: make(chan struct{}), abandoned: make(chan struct{}),
		foreign: map[string]time.Time{}, shards: map[string]*shard{}, goroutines: map[uint64]struct{}{},
	}
	// The end of ctx stops reading through Run; handlers and checkpoints go on
	// for a while.
	ctx = context.WithoutCancel(ctx)
	r.reading, r.stopReading = context.WithCancelCause(ctx)
	r.storing, r.stopStoring = context.WithCancelCause(ctx)
	r.handling, r.stopHandling = context.WithCancelCause(context.WithValue(ctx, runKey{}, r))
	return r
}

// stop ends reading, and the handlers' contexts after patience; 0 is for ever.
func (r *run) stop(patience time.Duration) {
	r.stopReading(ErrShutdown)
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
	if !r.drained {
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
	if err != nil && !(closed && errors.Is(err, errNotWritten)) {
		r.fail(shardID, err)
	}
}

// poke makes supervise look at the shards again.
func (r *run) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// supervise finds shards, takes them and starts their tasks, until the run is
// stopped.
func (r *run) supervise() {
	failures := 0
	for r.reading.Err() == nil {
		pause := r.o.DiscoverEvery
		if err := r.sync(r.reading); err == nil {
			failures = 0
		} else if r.reading.Err() != nil {
			return
		} else if permanent(err) {
			r.fail("", err)
			return
		} else {
			failures++
			pause = r.o.Retry.delay(failures, err)
			r.emit(Event{Kind: EventDiscoverFailed, Attempt: failures, Wait: pause, Err: err})
		}
		t := time.NewTimer(pause)
		select {
		case <-r.reading.Done():
		case <-r.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// drain waits for the tasks and gives back what no task had.
func (r *run) drain() {
	for id, l := range r.idle() {
		c := committer{r: r, id: id, lease: l}
		r.report(id, c.release(nil))
	}
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
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drained = true
	for _, t := range r.timers {
		t.Stop()
	}
}

// idle returns the rows that were taken, but have no task.
func (r *run) idle() map[string]checkpoint.Lease {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := map[string]checkpoint.Lease{}
	for id, s := range r.shards {
		if s.held && !s.started && !s.gone {
			rows[id] = s.lease
		}
	}
	return rows
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
		case <-r.wake: // a task has ended
		}
	}
}

// stuck returns the shards whose handler is running, and whether other tasks
// are still there.
func (r *run) stuck() (ids []string, others bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.shards {
		switch {
		case !s.started || s.finished:
		case s.inHandler:
			ids = append(ids, id)
		default:
			others = true
		}
	}
	slices.Sort(ids)
	return ids, others || len(ids) == 0
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
	s, ok := r.shards[id]
	if !ok {
		s = &shard{stats: ShardStats{ShardID: id}}
		r.shards[id] = s
	}
	f(s)
}

func (r *run) key(shardID string) checkpoint.Key {
	return checkpoint.Key{Group: r.o.Group, Stream: r.o.Stream, Shard: shardID}
}
