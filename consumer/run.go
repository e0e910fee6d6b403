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
	"github.com/shardlog/shardlog/checkpoint"
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

	wake      chan struct{}   // has a token when the shards should be looked at again
	watch     <-chan struct{} // the same, from a store that is a checkpoint.Watcher
	drained   chan struct{}   // closed when all shards are given back
	done      chan struct{}   // closed when Run returns
	abandoned chan struct{}   // closed by abandon
	tasks     sync.WaitGroup
	heart     *heart
	pauses    *pauses
	fetched   atomic.Int64 // bytes of records that wait for their handler

	// These are used by the goroutine of Run only. Unlisted has since when the
	// stream lacks a shard that has a row, asked since when this worker has
	// asked for a shard, free since when a shard was seen to have no owner.
	peers    peers
	joined   bool
	nextSync time.Time
	syncTook time.Duration
	unlisted map[string]time.Time
	asked    map[string]since
	free     map[string]since

	// mu is never held during I/O, a callback or a wait.
	mu          sync.Mutex
	errs        []error
	timers      []*time.Timer
	ended       bool // timers are not needed any more
	shards      map[string]*shard
	goroutines  map[uint64]struct{}
	running     map[*task]struct{}
	taken, lost uint64 // leases
	// What Stats tells of the group.
	workers, total, needed int
}

// shard is what the run knows of one shard. Its fields are guarded by run.mu.
type shard struct {
	// task works on the shard; nil when this worker does not have it. A task
	// that has lost the shard may still be ending when another one works.
	task *task
	// epoch is the largest one that was seen.
	epoch uint64
	// gone: the source does not have the shard any more, or, if expired is set,
	// still lists it but has nothing of it.
	gone, expired bool
	// parked: the shard failed for good, and is held so that no other worker
	// fails with it.
	parked bool
	row    checkpoint.Lease // of a parked shard
	// trouble says why reading does not go on; stats.Blocked is about handling.
	trouble string
	stats   ShardStats
}

func newRun(ctx context.Context, src shardlog.Source, o *Options, h Handler, p *pauses) *run {
	r := &run{
		src: src, o: o, h: h, pauses: p,
		wake: make(chan struct{}, 1), done: make(chan struct{}), drained: make(chan struct{}), abandoned: make(chan struct{}),
		shards: map[string]*shard{}, goroutines: map[uint64]struct{}{}, running: map[*task]struct{}{},
		unlisted: map[string]time.Time{}, asked: map[string]since{}, free: map[string]since{},
		peers: peers{ttl: o.LeaseTTL, self: o.WorkerID, all: map[string]*peer{}, dead: map[string]bool{}},
	}
	r.heart = newHeart(r)
	r.read = r.readFunc()
	r.keyRanges = shardlog.CapabilitiesOf(src).KeyRanges
	// The end of ctx stops reading through Run; handlers and checkpoints go on
	// for a while.
	ctx = context.WithoutCancel(ctx)
	r.reading, r.stopReading = context.WithCancelCause(ctx)
	r.storing, r.stopStoring = context.WithCancelCause(ctx)
	r.handling, r.stopHandling = context.WithCancelCause(context.WithValue(ctx, runKey{}, r))
	if w, ok := o.Store.(checkpoint.Watcher); ok {
		r.watch = w.Watch(r.reading, o.Group, o.Stream)
	}
	return r
}

// stop ends reading, and the handlers' contexts after patience; 0 is for ever.
func (r *run) stop(patience time.Duration) {
	r.stopReading(ErrShutdown)
	r.heart.leaving.Store(true)
	r.heart.soon()
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

// fence stops the work on all shards, because other workers may take this one
// for dead. When the store can be reached again, shards are taken anew.
func (r *run) fence() {
	defer r.enter()()
	err := fmt.Errorf("%w: the checkpoint store could not be reached for %v", ErrLeaseLost, r.heart.patience())
	r.loseAll(err)
	r.emit(Event{Kind: EventFenced, Err: err})
}

func (r *run) loseAll(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.shards {
		if s.task != nil {
			s.task.lose(cause)
		}
	}
}

// overtaken ends the run because another life of this worker's ID has begun.
func (r *run) overtaken(err error) {
	r.loseAll(err)
	r.fail("", err)
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
	r.giveBackParked()
	close(r.drained)
	if r.joined {
		<-r.heart.stopped
		r.heart.leave()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, t := range r.timers {
		t.Stop()
	}
}

// giveBackParked releases the shards that failed for good.
func (r *run) giveBackParked() {
	r.mu.Lock()
	var parked []*committer
	for id, s := range r.shards {
		if s.parked {
			parked = append(parked, &committer{r: r, id: id, lease: s.row, epoch: s.row.Epoch, storing: r.storing})
		}
	}
	r.mu.Unlock()
	for _, c := range parked {
		r.report(c.id, c.release(nil))
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
		case <-r.wake: // a task has ended
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

func (r *run) key(shardID string) checkpoint.Key {
	return checkpoint.Key{Group: r.o.Group, Stream: r.o.Stream, Shard: shardID}
}
