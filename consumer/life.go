package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// errGoexit: a handler has called runtime.Goexit, as t.FailNow does.
var errGoexit = errors.New("the handler ended its goroutine")

func (t *task) run() {
	defer t.r.goroutines.Leave(t.r.goroutines.Enter())
	exited := true // until shown otherwise
	defer func() {
		if exited {
			t.r.fail(t.id, errGoexit)
			t.fetch.stop()
		}
		t.r.endTask(t.duty)
		t.lose(nil) // frees the contexts
		if !t.parked {
			t.lease.Finish()
		}
	}()
	t.r.emit(Event{Kind: EventShardStarted, ShardID: t.id, Epoch: t.epoch, Position: t.pos})
	t.fetch = t.fetchFrom(t.pos)
	work := t.work
	if t.r.o.PerKey > 1 || t.r.o.Lanes > 1 {
		work = t.workKeyed
	}
	var err error
	if t.started = t.startHandler(); t.started {
		var end *chunk
		if end, err = work(); end != nil {
			err = t.end(end)
		}
	}
	t.fetch.stop()
	err = t.leave(err)
	exited = false
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		t.r.block(t.id, t.epoch, err.Error())
		t.r.report(t.id, err)
	}
}

// leave gives the shard back, with everything that is done written, and
// returns the error that ends the run, if any.
func (t *task) leave(err error) error {
	if cause := context.Cause(t.storing); errors.Is(cause, ErrLeaseLost) {
		err = cause
	}
	if errors.Is(err, errGoexit) {
		t.started = false // it gets no further call
	}
	if t.started && !t.closed && !errors.Is(err, ErrLeaseLost) && t.storing.Err() == nil {
		t.stopHandler(t.stopCause(err))
		if cause := context.Cause(t.storing); errors.Is(cause, ErrLeaseLost) {
			err = cause
		}
	}
	<-t.lock // no explicit checkpoint from here on
	t.over = true
	if t.lost != nil {
		err = t.lost
	}
	t.free()
	switch {
	case errors.Is(err, ErrLeaseLost):
		t.recordLoss(err)
		return err
	case t.closed:
		return err
	case errors.Is(err, errGone):
		t.r.emit(Event{Kind: EventShardGone, ShardID: t.id, Epoch: t.epoch, Position: t.pos})
		defer t.r.update(t.id, func(s *shard) { s.stats.Blocked = goneFromStream })
		t.lease.Gone()
		err = nil
	}
	if t.storing.Err() != nil {
		if t.started {
			t.loseHandler(context.Cause(t.storing))
		}
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
		return t.notStored(err, e)
	}
	t.r.update(t.id, func(s *shard) {
		if s.duty == t.duty {
			s.stats.Owner = ""
		}
	})
	t.r.emit(Event{Kind: EventShardReleased, ShardID: t.id, Epoch: t.epoch, Position: t.lease.Checkpoint()})
	return err
}

// notStored is what follows when the last write of the work was not made. Err is
// why the work ended, if for an error.
func (t *task) notStored(err, cause error) error {
	switch {
	case errors.Is(cause, ErrLeaseLost):
		t.recordLoss(cause)
	case errors.Is(cause, lease.ErrNotWritten) && t.started:
		t.loseHandler(context.Cause(t.storing))
	}
	return errors.Join(err, cause)
}

// recordLoss records that the shard is another worker's.
func (t *task) recordLoss(err error) {
	t.r.update(t.id, func(s *shard) {
		t.r.board.lost++
		if s.duty == t.duty {
			s.stats.Owner = ""
		}
	})
	t.r.emit(Event{Kind: EventLeaseLost, ShardID: t.id, Epoch: t.epoch, Position: t.pos, Err: err})
	if t.started {
		t.loseHandler(err)
	}
}

// stopCause is why the work on a shard ends that is still this worker's.
func (t *task) stopCause(err error) error {
	switch {
	case err != nil:
		return err
	case t.reading.Err() != nil:
		return context.Cause(t.reading)
	}
	return fmt.Errorf("%w: the heartbeat is overdue", ErrLeaseLost)
}

// park keeps the shard, so that it is known where it stands and no other worker
// fails with it, but works no more on it.
func (t *task) park(err error) error {
	if e := t.save(); e != nil {
		return t.notStored(err, e)
	}
	t.parked = true
	t.lease.Park()
	t.r.keep(t.lease)
	t.r.update(t.id, func(s *shard) { s.stats.block(err.Error()) })
	t.r.emit(Event{Kind: EventShardParked, ShardID: t.id, Epoch: t.epoch, Position: t.pos, Err: err})
	return nil
}

// end writes that the shard is done, which lets its children start.
func (t *task) end(c *chunk) error {
	t.startLeaving()
	if !t.endHandler(c.children) {
		return nil
	}
	if t.r.o.ExplicitCheckpoints {
		if err := t.awaitExplicit(); err != nil || t.reading.Err() != nil {
			return err
		}
	}
	if rank(t.pos) > 0 {
		t.pass(c.next)
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
	t.closed = true
	t.r.update(t.id, func(s *shard) {
		s.stats.Ended = true
		if s.duty == t.duty {
			s.stats.Owner = ""
		}
	})
	t.r.emit(Event{Kind: EventShardEnded, ShardID: t.id, Epoch: t.epoch, Position: t.pos})
	return nil
}

// awaitExplicit waits until the handler has stored that everything was done.
func (t *task) awaitExplicit() error {
	for t.reading.Err() == nil {
		if covered, lost := t.covers(); covered || lost != nil {
			t.r.block(t.id, t.epoch, "")
			return lost
		}
		t.r.block(t.id, t.epoch, fmt.Sprintf("waits for a checkpoint of its end, %v", t.pos))
		select {
		case <-t.moved:
		case <-t.reading.Done():
		}
	}
	return nil
}
