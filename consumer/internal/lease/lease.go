package lease

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// ErrNotWritten: the worker had no time left for the store.
var ErrNotWritten = errors.New("the row was not written")

// Lease is one taking of one shard by this worker, until Finish. Methods that
// write the row, and Row, are used by one goroutine at a time; the others are
// safe for concurrent use.
type Lease struct {
	g     *Group
	info  shardlog.ShardInfo
	epoch uint64
	ctx   context.Context
	end   context.CancelCauseFunc

	row checkpoint.Lease // as last written or read
	// inDoubt: a write failed in a way that does not show whether it was made,
	// and the row has not been seen since.
	inDoubt bool

	mu     sync.Mutex
	lost   error
	onLost func(cause error)
}

func (g *Group) newLease(info shardlog.ShardInfo, row checkpoint.Lease) *Lease {
	l := &Lease{g: g, info: info, epoch: row.Epoch, row: row}
	l.ctx, l.end = context.WithCancelCause(g.storing)
	return l
}

// Shard describes the shard.
func (l *Lease) Shard() shardlog.ShardInfo { return l.info }

// Epoch is the fencing token of this taking.
func (l *Lease) Epoch() uint64 { return l.epoch }

// Row is the row as it was last written or read.
func (l *Lease) Row() checkpoint.Lease { return l.row }

// Checkpoint is that of Row, without a copy of all of it.
func (l *Lease) Checkpoint() shardlog.Position { return l.row.Checkpoint }

// Context ends when the row is not to be written any more: with ErrLost as its
// cause when the shard was lost, else with that of the worker's end, or when
// Finish was called.
func (l *Lease) Context() context.Context { return l.ctx }

// OnLost sets what is called when the shard is lost, once, and calls it
// immediately if it is lost already. F must not block.
func (l *Lease) OnLost(f func(cause error)) {
	l.mu.Lock()
	l.onLost = f
	lost := l.lost
	l.mu.Unlock()
	if lost != nil {
		f(lost)
	}
}

func (l *Lease) lose(cause error) {
	l.mu.Lock()
	first := l.lost == nil
	if first {
		l.lost = cause
	}
	f := l.onLost
	l.mu.Unlock()
	if !first {
		return
	}
	l.end(cause)
	if f != nil {
		f(cause)
	}
}

// held reports whether the worker has the shard. One that has lost it may still
// wait for its handler.
func (l *Lease) held() bool { return l != nil && !errors.Is(context.Cause(l.ctx), ErrLost) }

// Finish ends the lease: its owner does not work on the shard any more.
func (l *Lease) Finish() {
	l.g.update(l.info.ID, func(s *shardState) {
		if s.lease == l {
			s.lease = nil
		}
	})
	l.end(nil)
	l.g.Wake()
}

// Park ends the work, but keeps the shard until Release, so that no other
// worker fails with it too.
func (l *Lease) Park() {
	l.g.update(l.info.ID, func(s *shardState) {
		if s.lease == l {
			s.lease, s.parked = nil, true
		}
	})
}

// Gone records that the source has nothing of the shard any more, although it
// may still list it. Its children need not wait.
func (l *Lease) Gone() {
	l.g.update(l.info.ID, func(s *shardState) { s.gone, s.expired = true, true })
}

// Release gives the shard back, after the change that also has to be made, if
// any. A request by another worker stays in the row: it is for that one.
func (l *Lease) Release(change func(*checkpoint.Lease)) error {
	err := l.Commit(func(row *checkpoint.Lease) {
		if change != nil {
			change(row)
		}
		row.Owner = ""
	})
	if change == nil && errors.Is(err, ErrLost) {
		return nil // it is with another worker already, and nothing is lost
	}
	if err == nil {
		if l.row.Ended {
			l.g.update(l.info.ID, func(s *shardState) { s.ended = true })
		}
		l.g.heartbeat.announce()
	}
	return err
}

// Commit makes a change, however long the store takes to accept it. It fails
// when the shard is lost, when trying again cannot help, and when the consumer
// has no time left.
func (l *Lease) Commit(change func(*checkpoint.Lease)) error {
	l.inDoubt = false
	return l.withOutcome(l.commit(change))
}

func (l *Lease) commit(change func(*checkpoint.Lease)) error {
	for failures := 1; ; failures++ {
		err := l.once(l.ctx, change)
		if err == nil || Permanent(err) {
			l.g.c.Owner.Blocked(l, "")
			return err
		}
		if l.ctx.Err() != nil {
			if cause := context.Cause(l.ctx); errors.Is(cause, ErrLost) {
				return cause
			}
			return fmt.Errorf("%w: %w", ErrNotWritten, err)
		}
		pause := l.g.c.Backoff.Pause(failures, err)
		l.g.c.Owner.Blocked(l, fmt.Sprintf("store, attempt %d: %v", failures, err))
		l.g.c.Owner.Notify(Event{
			Kind: StoreFailed, ShardID: l.info.ID, Epoch: l.epoch, Position: l.row.Checkpoint,
			Attempt: failures, Wait: pause, Err: err,
		})
		Sleep(l.ctx, pause)
	}
}

// Update makes a change, or fails with ErrLost or the store's error. It may be
// called again after any other error.
func (l *Lease) Update(ctx context.Context, change func(*checkpoint.Lease)) error {
	l.inDoubt = false
	return l.withOutcome(l.once(ctx, change))
}

// once is Update for a caller that reports the outcome itself.
func (l *Lease) once(ctx context.Context, change func(*checkpoint.Lease)) error {
	var conflict error
	for range 10 {
		next := l.row.Clone()
		change(&next)
		got, err := l.g.c.Store.Update(ctx, next)
		if err == nil {
			l.Adopt(got)
			return nil
		}
		if errors.Is(err, shardlog.ErrNotFound) {
			return fmt.Errorf("%w: its row was deleted", ErrLost)
		}
		if !errors.Is(err, shardlog.ErrConflict) {
			l.inDoubt = l.inDoubt || !notWritten(err)
			return err
		}
		// Either an earlier write of our own was made although its answer was
		// lost, or another worker asks for the shard, or it has taken it.
		conflict = err
		row, err := l.Refresh(ctx)
		if err != nil {
			return err
		}
		if same(row, next) {
			l.Adopt(row)
			return nil
		}
		if row.Owner != l.row.Owner {
			return LostTo(row)
		}
		l.Adopt(row)
	}
	return fmt.Errorf("%w: the row is changed again and again: %v", checkpoint.ErrUnavailable, conflict)
}

// notWritten reports whether an error of Store.Update means that nothing was
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
func (l *Lease) withOutcome(err error) error {
	if err == nil || !l.inDoubt {
		return err
	}
	return fmt.Errorf("%w: %w", err, shardlog.ErrUnknownOutcome)
}

// Refresh reads the row. The error matches ErrLost when another worker
// has taken the shard.
func (l *Lease) Refresh(ctx context.Context) (checkpoint.Lease, error) {
	row, err := l.g.c.Store.Get(ctx, l.row.Key)
	switch {
	case errors.Is(err, shardlog.ErrNotFound):
		return row, fmt.Errorf("%w: its row was deleted", ErrLost)
	case err != nil:
		return row, err
	case foreign(&row, l.row.StreamID):
		// The worker of another stream may have this one's ID, and the epoch.
		return row, fmt.Errorf("%w: its row is of the stream with the ID %q by now", ErrLost, row.StreamID)
	case row.Epoch != l.epoch:
		return row, LostTo(row)
	}
	return row, nil
}

// same reports whether a row says what a worker wanted to write.
func same(row, want checkpoint.Lease) bool {
	return row.Epoch == want.Epoch && row.Owner == want.Owner && row.Ended == want.Ended &&
		row.Checkpoint == want.Checkpoint && reflect.DeepEqual(row.Prepared, want.Prepared) &&
		string(row.PreparedState) == string(want.PreparedState)
}

// Adopt records what the store has now: what was written, or what somebody else
// has written without taking the shard, who asks for it then.
func (l *Lease) Adopt(row checkpoint.Lease) {
	moved := row.Checkpoint != l.row.Checkpoint
	l.row, l.inDoubt = row, false
	if row.Next != "" {
		l.g.Wake()
	}
	if moved {
		l.g.c.Owner.Notify(Event{Kind: Checkpointed, ShardID: l.info.ID, Epoch: row.Epoch, Position: row.Checkpoint})
	}
}

// LostTo is the error for a row that another worker has.
func LostTo(row checkpoint.Lease) error {
	owner := row.Owner
	if owner == "" {
		owner = "another worker"
	}
	return fmt.Errorf("%w: held by %s since epoch %d", ErrLost, owner, row.Epoch)
}
