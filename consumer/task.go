package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// task works on one shard, in a goroutine of its own, until its end or a stop.
type task struct {
	committer
	handling context.Context // for the handler; ends also when the shard is lost

	next  shardlog.Position // where reading goes on
	saved time.Time         // when the checkpoint was last written
	early int               // reads in a row that came back without having waited

	// lock has one token; who has it may use the fields below and the
	// committer's lease. It matters only while a handler runs, which may call
	// Batch.Checkpoint. A channel and no mutex, because it is held during
	// calls of the store.
	lock chan struct{}
	pos  shardlog.Position // everything before it is done
	lost error             // set when a Batch.Checkpoint found the shard lost
}

// newTask is called with r.mu held.
func newTask(r *run, info shardlog.ShardInfo, s *shard) *task {
	t := &task{
		committer: committer{r: r, id: info.ID, lease: s.lease},
		next:      s.lease.Checkpoint, pos: s.lease.Checkpoint,
		lock: make(chan struct{}, 1), saved: time.Now(),
	}
	t.handling, s.lose = context.WithCancelCause(r.handling)
	t.lock <- struct{}{}
	return t
}

// errGone ends a task whose shard the source does not have any more.
var errGone = errors.New("shard is gone")

func (t *task) run() {
	defer t.r.enter()()
	exited := true // until shown otherwise
	defer func() {
		if exited { // a handler has called runtime.Goexit, as t.FailNow does
			t.r.fail(t.id, errors.New("the handler ended its goroutine"))
		}
		t.r.update(t.id, func(s *shard) {
			s.finished = true
			s.lose(nil) // frees the context
		})
		t.r.poke()
	}()
	t.r.emit(Event{Kind: EventShardStarted, ShardID: t.id, Epoch: t.lease.Epoch, Position: t.next})
	err := t.leave(t.work())
	exited = false
	if err != nil {
		t.blocked(err.Error())
		t.r.report(t.id, err)
	}
}

// work reads and delivers until the shard ends (a nil error, and the row says
// so), the run is stopped (also nil), or an error that ends the run.
func (t *task) work() error {
	for t.r.reading.Err() == nil {
		page, err := t.read()
		if err != nil {
			return err
		}
		if t.r.reading.Err() != nil {
			return nil // what was read is not begun any more
		}
		if len(page.Records) > 0 {
			if done, err := t.deliver(page); err != nil || !done {
				return err
			}
		}
		t.next = endOfPage(page)
		if page.End {
			return t.end(page)
		}
		if t.due() <= 0 {
			if err := t.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// leave gives the shard back, with everything that is done written, and
// returns the error that ends the run, if any.
func (t *task) leave(err error) error {
	switch {
	case errors.Is(err, ErrLeaseLost) || t.lease.Ended:
		return err
	case errors.Is(err, errGone):
		t.r.emit(Event{Kind: EventShardGone, ShardID: t.id, Epoch: t.lease.Epoch, Position: t.pos})
		defer t.r.update(t.id, func(s *shard) { s.gone, s.stats.Blocked = true, "gone from the stream" })
		err = nil
	}
	if t.r.storing.Err() != nil {
		return err // closed, and the store is not to be called any more
	}
	var change func(*checkpoint.Lease)
	if t.dirty() {
		change = advance(t.pos)
	}
	if e := t.release(change); e != nil {
		return errors.Join(err, e)
	}
	t.r.emit(Event{Kind: EventShardReleased, ShardID: t.id, Epoch: t.lease.Epoch, Position: t.lease.Checkpoint})
	return err
}

// end writes that the shard is done, which lets its children start.
func (t *task) end(page *shardlog.Page) error {
	if rank(t.pos) > 0 {
		t.pos = later(page.Next, t.pos)
	} // else nothing of the shard was read, which decides where its children start
	err := t.release(func(l *checkpoint.Lease) {
		advance(t.pos)(l)
		l.Ended, l.Children = true, page.Children
	})
	if err != nil {
		return err
	}
	t.r.update(t.id, func(s *shard) { s.stats.Ended = true })
	t.r.emit(Event{Kind: EventShardEnded, ShardID: t.id, Epoch: t.lease.Epoch, Position: t.pos})
	return nil
}

// dirty tells whether more is done than the store knows.
func (t *task) dirty() bool { return compare(t.pos, t.lease.Checkpoint) > 0 }

// due is how long the checkpoint may still wait; there is no hurry when there
// is nothing to write.
func (t *task) due() time.Duration {
	if !t.dirty() {
		return t.r.o.PollWait
	}
	return t.r.o.CheckpointEvery - time.Since(t.saved)
}

// save writes the checkpoint if it has moved.
func (t *task) save() error {
	if !t.dirty() {
		return nil
	}
	err := t.commit(advance(t.pos))
	t.saved = time.Now()
	return err
}

// deliver calls the handler until all records of the page are done. It returns
// false when the run was stopped before.
func (t *task) deliver(page *shardlog.Page) (done bool, err error) {
	records := page.Records
	for attempt := 1; ; attempt++ {
		b := &Batch{
			Records: records, ShardID: t.id, Behind: page.Behind, BehindRecords: page.BehindRecords,
			Epoch: t.lease.Epoch, ShardEnd: page.End, Attempt: attempt, task: t, end: endOfPage(page),
		}
		t.r.update(t.id, func(s *shard) { s.stats.Attempts = attempt })
		n, err := t.handle(b)
		if t.lost != nil {
			return false, t.lost
		}
		switch {
		case n == len(records):
			t.pos = later(b.end, t.pos)
		case n > 0:
			t.pos = later(afterRecord(records, n-1), t.pos)
		}
		records = records[n:]
		t.r.update(t.id, func(s *shard) {
			s.stats.Delivered += uint64(n)
			if err != nil {
				s.stats.Failures++
			}
			if len(records) == 0 {
				s.stats.Attempts, s.stats.Blocked = 0, ""
			}
		})
		if n > 0 {
			attempt = 1 // of the record that is the first one now
		}
		if cause := context.Cause(t.handling); errors.Is(cause, ErrLeaseLost) {
			return false, cause
		}
		if err == nil {
			return true, nil
		}
		if done, err := t.retry(b, err, attempt, len(records) == 0); done || err != nil {
			return done, err
		}
		if t.r.reading.Err() != nil {
			return false, nil
		}
	}
}

// retry prepares the next attempt after a handler's error: what is done is
// saved, because the attempts may go on for long, and then it pauses. All is
// set when every record is done in spite of the error.
func (t *task) retry(b *Batch, cause error, attempt int, all bool) (done bool, err error) {
	pause := t.r.o.Retry.delay(attempt, nil)
	if all {
		pause = 0
	}
	t.r.emit(Event{
		Kind: EventHandlerFailed, ShardID: t.id, Epoch: b.Epoch, Position: t.pos,
		Attempt: b.Attempt, Wait: pause, Err: cause,
	})
	if t.r.storing.Err() == nil {
		if err := t.save(); err != nil {
			return false, err
		}
	}
	if all {
		return true, nil
	}
	t.blocked(fmt.Sprintf("handler, attempt %d: %v", b.Attempt, cause))
	sleep(t.r.reading, pause)
	return false, nil
}

// handle makes one call of the handler and returns how many records from the
// first on are done.
func (t *task) handle(b *Batch) (n int, err error) {
	t.r.update(t.id, func(s *shard) { s.inHandler = true })
	err = recovered(func() error { return t.r.h.Handle(t.handling, b) })
	t.r.update(t.id, func(s *shard) { s.inHandler = false })
	<-t.lock // waits for a Batch.Checkpoint that is under way
	b.over = true
	n = b.done
	t.lock <- struct{}{}
	if err == nil {
		return len(b.Records), nil
	}
	var partial *PartialError
	if errors.As(err, &partial) && partial.Index <= len(b.Records) {
		n = max(n, partial.Index)
	}
	return n, err
}

// checkpointIn is Batch.Checkpoint.
func (t *task) checkpointIn(ctx context.Context, b *Batch, pos shardlog.Position) error {
	select {
	case <-t.lock:
	case <-ctx.Done():
		return b.fault(context.Cause(ctx))
	}
	defer func() { t.lock <- struct{}{} }()
	switch {
	case b.over || t.r.storing.Err() != nil:
		return b.fault(shardlog.ErrClosed)
	case t.lost != nil:
		return b.fault(t.lost)
	case compare(pos, t.pos) < 0:
		return b.fault(ErrBehind)
	case compare(pos, b.end) > 0:
		return b.fault(ErrAhead)
	}
	if compare(pos, t.lease.Checkpoint) != 0 {
		if err := t.once(ctx, advance(pos)); err != nil {
			if errors.Is(err, ErrLeaseLost) {
				t.lost = err
			}
			return b.fault(err)
		}
		t.saved = time.Now()
	}
	t.pos = pos
	for b.done < len(b.Records) && compare(afterRecord(b.Records, b.done), pos) <= 0 {
		b.done++
	}
	return nil
}
