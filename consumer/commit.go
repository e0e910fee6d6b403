package consumer

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// errNotWritten: the consumer had no time left for the store.
var errNotWritten = errors.New("the row was not written")

// committer writes the row of one shard that this worker has taken. It is used
// by one goroutine at a time.
type committer struct {
	r       *run
	id      string
	epoch   uint64
	lease   checkpoint.Lease // as last written
	storing context.Context  // ends when the shard is lost, or the run has no time left
	// inDoubt: a write failed in a way that does not tell whether it was made,
	// and the row has not been seen since.
	inDoubt bool
}

// advance is the change of a row that stores pos as done. It never goes back.
func advance(pos shardlog.Position) func(*checkpoint.Lease) {
	return func(l *checkpoint.Lease) {
		l.Checkpoint = later(pos, l.Checkpoint)
		l.Switches = 0
		l.Prepared, l.PreparedState = nil, nil
	}
}

// release gives the shard back, after the change that also has to be made, if
// any. A request by another worker stays in the row: it is for that one.
func (c *committer) release(change func(*checkpoint.Lease)) error {
	err := c.commit(func(l *checkpoint.Lease) {
		if change != nil {
			change(l)
		}
		l.Owner = ""
	})
	if change == nil && errors.Is(err, ErrLeaseLost) {
		return nil // it is with another worker already, and nothing is lost
	}
	if err == nil {
		c.r.heart.announce()
	}
	return err
}

// commit makes a change, however long the store takes to accept it. It fails
// when the shard is lost, when trying again cannot help, and when the consumer
// has no time left.
func (c *committer) commit(change func(*checkpoint.Lease)) error {
	for failures := 1; ; failures++ {
		err := c.once(c.storing, change)
		if err == nil || permanent(err) {
			c.blocked("")
			return err
		}
		if c.storing.Err() != nil {
			if cause := context.Cause(c.storing); errors.Is(cause, ErrLeaseLost) {
				return cause
			}
			return fmt.Errorf("%w: %w", errNotWritten, err)
		}
		pause := c.r.o.Retry.delay(failures, err)
		c.blocked(fmt.Sprintf("store, attempt %d: %v", failures, err))
		c.r.emit(Event{
			Kind: EventStoreFailed, ShardID: c.id, Epoch: c.epoch, Position: c.lease.Checkpoint,
			Attempt: failures, Wait: pause, Err: err,
		})
		sleep(c.storing, pause)
	}
}

// once makes a change, or fails with ErrLeaseLost or the store's error. After
// an error of which the outcome is unknown it can be called again.
func (c *committer) once(ctx context.Context, change func(*checkpoint.Lease)) error {
	var conflict error
	for range 10 {
		next := c.lease.Clone()
		change(&next)
		got, err := c.r.o.Store.Update(ctx, next)
		if err == nil {
			c.wrote(got)
			return nil
		}
		if errors.Is(err, shardlog.ErrNotFound) {
			return fmt.Errorf("%w: its row was deleted", ErrLeaseLost)
		}
		if !errors.Is(err, shardlog.ErrConflict) {
			c.inDoubt = c.inDoubt || !notWritten(err)
			return err
		}
		// Either an earlier write of our own was made although its answer was
		// lost, or another worker asks for the shard, or it has taken it.
		conflict = err
		row, err := c.refresh(ctx)
		if err != nil {
			return err
		}
		if same(row, next) {
			c.wrote(row)
			return nil
		}
		if row.Owner != c.lease.Owner {
			return lostTo(row)
		}
		c.adopt(row)
	}
	return fmt.Errorf("%w: the row is changed again and again: %v", checkpoint.ErrUnavailable, conflict)
}

// notWritten tells whether an error of Store.Update means that nothing was
// written.
func notWritten(err error) bool {
	for _, target := range []error{shardlog.ErrInvalid, shardlog.ErrClosed, shardlog.ErrUnsupported} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// withOutcome adds to an error of a write that the outcome is unknown, if it
// is: the caller must not take the error to mean that nothing was written.
func (c *committer) withOutcome(err error) error {
	if err == nil || !c.inDoubt {
		return err
	}
	return fmt.Errorf("%w: %w", err, shardlog.ErrUnknownOutcome)
}

// refresh reads the row. The error matches ErrLeaseLost when another worker
// has taken the shard.
func (c *committer) refresh(ctx context.Context) (checkpoint.Lease, error) {
	row, err := c.r.o.Store.Get(ctx, c.lease.Key)
	switch {
	case errors.Is(err, shardlog.ErrNotFound):
		return row, fmt.Errorf("%w: its row was deleted", ErrLeaseLost)
	case err != nil:
		return row, err
	case row.Epoch != c.epoch:
		return row, lostTo(row)
	}
	return row, nil
}

// same tells whether a row says what a worker wanted to write.
func same(row, want checkpoint.Lease) bool {
	return row.Epoch == want.Epoch && row.Owner == want.Owner && row.Ended == want.Ended &&
		row.Checkpoint == want.Checkpoint && reflect.DeepEqual(row.Prepared, want.Prepared) &&
		string(row.PreparedState) == string(want.PreparedState)
}

// adopt notes a row that somebody else has written without taking the shard:
// that worker asks for it.
func (c *committer) adopt(row checkpoint.Lease) {
	c.lease, c.inDoubt = row, false
	if row.Next != "" {
		c.r.poke()
	}
}

// wrote notes what the store has now.
func (c *committer) wrote(l checkpoint.Lease) {
	moved := l.Checkpoint != c.lease.Checkpoint
	c.adopt(l)
	c.r.update(c.id, func(s *shard) {
		if s.epoch == c.epoch {
			s.stats.Checkpoint = l.Checkpoint
		}
	})
	if moved {
		c.r.emit(Event{Kind: EventCheckpoint, ShardID: c.id, Epoch: l.Epoch, Position: l.Checkpoint})
	}
}

func (c *committer) blocked(why string) {
	c.r.update(c.id, func(s *shard) {
		if s.epoch == c.epoch {
			s.stats.block(why)
		}
	})
}
