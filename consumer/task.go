package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// errHandOff ends the reading of a shard that another worker asks for.
var errHandOff = errors.New("the shard is handed over")

// errGone ends a task whose shard the source does not have any more.
var errGone = errors.New("shard is gone")

// task works on one shard in one epoch, in a goroutine of its own, until the
// shard ends or is lost or given back.
type task struct {
	r           *run
	id          string
	epoch       uint64
	lease       ownership
	info        shardlog.ShardInfo
	storing     context.Context // of the lease: ends when the row is not to be written any more
	reading     context.Context // ends when nothing new is to be begun
	handling    context.Context // for the handler
	stopReading context.CancelCauseFunc
	lose        context.CancelCauseFunc // ends both contexts; the lease has ended

	fetch  *fetcher
	rest   []shardlog.Record // of the chunk at hand, not yet in a batch
	chunk  *chunk            // what rest comes from
	saved  time.Time         // when the checkpoint was last written
	change <-chan struct{}   // closed when obey has to look again

	// lock has one token; who has it may use the fields below and the
	// lease's row. It matters only while a handler runs, which may call
	// Batch.Checkpoint. A channel and no mutex, because it is held during
	// calls of the store.
	lock  chan struct{}
	pos   shardlog.Position // everything before it is done, or was delivered if checkpoints are explicit
	lost  error             // set when a Batch.Checkpoint found the shard lost
	over  bool              // the task has ended
	seeks int               // how many were carried out
	moved chan struct{}     // has a token when an explicit checkpoint was stored

	parked    bool // the shard is kept although the work has ended
	inHandler int  // calls of the handler that are under way; guarded by run.mu
}

// newTask is called with r.mu held.
func newTask(r *run, l ownership) *task {
	t := &task{
		r: r, id: l.Shard().ID, epoch: l.Epoch(), lease: l, info: l.Shard(), storing: l.Context(),
		pos: l.Row().Checkpoint, saved: time.Now(),
		lock: make(chan struct{}, 1), moved: make(chan struct{}, 1),
	}
	var stopHandling context.CancelCauseFunc
	t.reading, t.stopReading = context.WithCancelCause(r.reading)
	t.handling, stopHandling = context.WithCancelCause(r.handling)
	t.lose = func(cause error) {
		t.stopReading(cause)
		stopHandling(cause)
	}
	t.lock <- struct{}{}
	r.running[t] = struct{}{}
	return t
}

// working reports whether a task is there and has its shard. One that has lost
// it may still wait for its handler.
func (t *task) working() bool {
	return t != nil && !errors.Is(context.Cause(t.storing), ErrLeaseLost)
}

func (t *task) run() {
	defer t.r.goroutines.Leave(t.r.goroutines.Enter())
	exited := true // until shown otherwise
	defer func() {
		if exited { // a handler has called runtime.Goexit, as t.FailNow does
			t.r.fail(t.id, errors.New("the handler ended its goroutine"))
			t.fetch.stop()
		}
		t.r.update(t.id, func(s *shard) {
			delete(t.r.running, t)
			if s.task == t {
				s.task, s.trouble, s.stats.Attempts = nil, "", 0
			}
		})
		t.lose(nil) // frees the contexts
		if !t.parked {
			t.lease.Finish()
		}
		t.r.noteTaskEnd()
	}()
	t.r.emit(Event{Kind: EventShardStarted, ShardID: t.id, Epoch: t.epoch, Position: t.pos})
	t.fetch = t.fetchFrom(t.pos)
	work := t.work
	if t.r.o.PerKey > 1 {
		work = t.workKeyed
	}
	err := work()
	t.fetch.stop()
	err = t.leave(err)
	exited = false
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		t.blocked(err.Error())
		t.r.report(t.id, err)
	}
}

// work delivers until the shard ends (a nil error, and the row says so), the
// reading is stopped (also nil), or an error that ends the task.
func (t *task) work() error {
	for t.reading.Err() == nil {
		if again, err := t.obey(); err != nil || !again {
			return err
		}
		if len(t.rest) == 0 {
			if err := t.nextChunk(); err != nil {
				return err
			}
			if t.chunk == nil {
				continue
			}
		}
		if len(t.rest) > 0 || t.chunk.idle {
			done, err := t.deliver(t.batch())
			if err != nil || !done {
				return err
			}
		} else if !t.chunk.none {
			t.advance(t.chunk.next) // what was filtered out is done
		}
		if len(t.rest) > 0 {
			continue
		}
		if t.chunk.end {
			return t.end(t.chunk)
		}
		t.chunk = nil
		if t.due() <= 0 {
			if err := t.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextChunk waits for something to do. It returns without a chunk when only
// something else had to be done: a checkpoint that was due, or a request.
func (t *task) nextChunk() error {
	t.chunk = nil
	select {
	case c := <-t.fetch.chunks:
		return t.use(c)
	default:
	}
	var due <-chan time.Time
	if t.dirty() {
		timer := time.NewTimer(max(t.due(), 0))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case c := <-t.fetch.chunks:
		return t.use(c)
	case <-due:
		return t.save()
	case <-t.change:
	case <-t.reading.Done():
	}
	return nil
}

func (t *task) use(c *chunk) error {
	t.fetch.took(c)
	if c.err != nil {
		return c.err
	}
	t.chunk, t.rest = c, c.records
	return t.gather()
}

// gather waits for more records while the batch is not full, if
// Options.BatchWindow allows that. The checkpoint waits with them.
func (t *task) gather() error {
	o := t.r.o
	if o.BatchWindow <= 0 || t.chunk.end || t.chunk.idle {
		return nil
	}
	timer := time.NewTimer(o.BatchWindow)
	defer timer.Stop()
	for size := t.chunk.size; len(t.rest) < o.MaxBatchRecords && size < int64(o.MaxBatchBytes) && !t.chunk.end; {
		select {
		case c := <-t.fetch.chunks:
			t.fetch.took(c)
			if c.err != nil {
				// It comes again from a new reader, after these records.
				t.fetch.stop()
				t.fetch = t.fetchFrom(t.chunk.next)
				return nil
			}
			size += c.size
			c.records = append(t.rest, c.records...)
			c.idle, c.none, c.size = false, false, size
			t.chunk, t.rest = c, c.records
		case <-timer.C:
			return nil
		case <-t.reading.Done():
			return nil
		}
	}
	return nil
}

// leave gives the shard back, with everything that is done written, and
// returns the error that ends the run, if any.
func (t *task) leave(err error) error {
	if cause := context.Cause(t.storing); errors.Is(cause, ErrLeaseLost) {
		err = cause
	}
	<-t.lock // no explicit checkpoint from here on
	t.over = true
	t.lock <- struct{}{}
	switch {
	case errors.Is(err, ErrLeaseLost):
		t.gaveUp(err)
		return err
	case t.lease.Row().Ended:
		return err
	case errors.Is(err, errGone):
		t.r.emit(Event{Kind: EventShardGone, ShardID: t.id, Epoch: t.epoch, Position: t.pos})
		defer t.r.update(t.id, func(s *shard) { s.stats.Blocked = goneFromStream })
		t.lease.Gone()
		err = nil
	}
	if t.storing.Err() != nil {
		return err // closed, and the store is not to be called any more
	}
	if err != nil && t.r.o.ParkFailed {
		return t.park(err)
	}
	var change func(*checkpoint.Lease)
	if t.dirty() {
		change = advance(t.pos)
	}
	if e := t.lease.Release(change); e != nil {
		if errors.Is(e, ErrLeaseLost) {
			t.gaveUp(e)
		}
		return errors.Join(err, e)
	}
	t.r.update(t.id, func(s *shard) {
		if s.task == t {
			s.stats.Owner = ""
		}
	})
	t.r.emit(Event{Kind: EventShardReleased, ShardID: t.id, Epoch: t.epoch, Position: t.lease.Row().Checkpoint})
	return err
}

// gaveUp notes that the shard is another worker's.
func (t *task) gaveUp(err error) {
	t.r.update(t.id, func(s *shard) {
		t.r.lost++
		if s.task == t {
			s.stats.Owner = ""
		}
	})
	t.r.emit(Event{Kind: EventLeaseLost, ShardID: t.id, Epoch: t.epoch, Position: t.pos, Err: err})
}

// park keeps the shard, so that it is known where it stands and no other worker
// fails with it, but works no more on it.
func (t *task) park(err error) error {
	if e := t.save(); e != nil {
		return errors.Join(err, e)
	}
	t.parked = true
	t.lease.Park()
	t.r.update(t.id, func(s *shard) {
		t.r.parked = append(t.r.parked, t)
		s.stats.block(err.Error())
	})
	t.r.emit(Event{Kind: EventShardParked, ShardID: t.id, Epoch: t.epoch, Position: t.pos, Err: err})
	return nil
}

// end writes that the shard is done, which lets its children start.
func (t *task) end(c *chunk) error {
	if t.r.o.ExplicitCheckpoints {
		if err := t.awaitExplicit(); err != nil || t.reading.Err() != nil {
			return err
		}
	}
	if rank(t.pos) > 0 {
		t.advance(c.next)
	} // else nothing of the shard was read, which decides where its children start
	<-t.lock
	err := t.lease.Release(func(l *checkpoint.Lease) {
		advance(t.pos)(l)
		l.Ended, l.Children = true, c.children
	})
	t.free()
	if err != nil {
		return err
	}
	t.r.update(t.id, func(s *shard) {
		s.stats.Ended = true
		if s.task == t {
			s.stats.Owner = ""
		}
	})
	t.r.emit(Event{Kind: EventShardEnded, ShardID: t.id, Epoch: t.epoch, Position: t.pos})
	return nil
}

// awaitExplicit waits until the handler has stored that everything was done.
func (t *task) awaitExplicit() error {
	for t.reading.Err() == nil {
		<-t.lock
		done := compare(t.lease.Row().Checkpoint, t.pos) >= 0 || rank(t.pos) == 0
		lost := t.lost
		t.lock <- struct{}{}
		if done || lost != nil {
			t.blocked("")
			return lost
		}
		t.blocked(fmt.Sprintf("waits for a checkpoint of its end, %v", t.pos))
		select {
		case <-t.moved:
		case <-t.reading.Done():
		}
	}
	return nil
}

// advance notes that everything before pos is done.
func (t *task) advance(pos shardlog.Position) {
	<-t.lock // explicit checkpoints may come at any time
	t.pos = later(pos, t.pos)
	t.free()
}

// dirty tells whether more is done than the store knows.
func (t *task) dirty() bool {
	return !t.r.o.ExplicitCheckpoints && compare(t.pos, t.lease.Row().Checkpoint) > 0
}

// due is how long the checkpoint may still wait.
func (t *task) due() time.Duration { return t.r.o.CheckpointEvery - time.Since(t.saved) }

// save writes the checkpoint if it has moved.
func (t *task) save() error {
	if !t.dirty() {
		return nil
	}
	err := t.lease.Commit(advance(t.pos))
	t.saved = time.Now()
	return err
}

// blocked sets why the shard does not advance, "" when it does.
func (t *task) blocked(why string) {
	t.r.update(t.id, func(s *shard) {
		if s.stats.Epoch == t.epoch {
			s.stats.block(why)
		}
	})
}

// advance is the change of a row that stores pos as done. It never goes back.
func advance(pos shardlog.Position) func(*checkpoint.Lease) {
	return func(l *checkpoint.Lease) {
		l.Checkpoint = later(pos, l.Checkpoint)
		l.Switches = 0
		l.Prepared, l.PreparedState = nil, nil
	}
}
