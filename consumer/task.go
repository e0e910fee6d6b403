package consumer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kpl"
)

// errGone ends a task whose shard the source does not have any more.
var errGone = fmt.Errorf("%w: the stream does not have the shard any more", shardlog.ErrNotFound)

// task works on one shard in one epoch, in a goroutine of its own, until the
// shard ends or is lost or given back.
type task struct {
	*duty
	r           *run
	lease       ownership
	info        shardlog.ShardInfo
	streamID    string          // the stream that the row is about; "" if that is not known
	reading     context.Context // ends when nothing new is to be begun
	handling    context.Context // for the handler
	stopReading context.CancelCauseFunc
	lose        context.CancelCauseFunc // ends both contexts; the lease has ended

	fetch  *fetcher
	rest   []shardlog.Record // of the chunk at hand, not yet in a batch
	chunk  *chunk            // what rest comes from
	saved  time.Time         // when the checkpoint was last written; unused if they are explicit
	change <-chan struct{}   // closed when answerRequests has to look again

	// lock has one token; who has it may use the fields below and the
	// lease's row. It matters only while a handler runs, which may call
	// Batch.Checkpoint. A channel and no mutex, because it is held during
	// calls of the store.
	lock  chan struct{}
	pos   shardlog.Position // everything before it is done, or was delivered if checkpoints are explicit
	given shardlog.Position // the end of what the handler got; explicit checkpoints have to cover it
	lost  error             // set when a Batch.Checkpoint found the shard lost
	over  bool              // the task has ended
	seeks int               // how many were carried out
	moved chan struct{}     // has a token when an explicit checkpoint was stored

	started bool // StartShard has returned nil, and no call has ended its goroutine
	closed  bool // the row shows the end of the shard
	parked  bool // the shard is kept although the work has ended

	// leaving is closed when the work is about to end, for Batch.Leaving.
	leaving     chan struct{}
	leavingOnce sync.Once
	// asked is set when the handler has asked for leaving.
	asked atomic.Bool
}

func newTask(r *run, l ownership) *task {
	t := &task{
		duty: &duty{id: l.Shard().ID, epoch: l.Epoch(), storing: l.Context(), ended: make(chan struct{})}, r: r, lease: l, info: l.Shard(), streamID: l.Row().StreamID,
		pos: l.Checkpoint(), saved: time.Now(),
		lock: make(chan struct{}, 1), moved: make(chan struct{}, 1), leaving: make(chan struct{}),
	}
	var stopHandling context.CancelCauseFunc
	t.reading, t.stopReading = context.WithCancelCause(r.reading)
	t.handling, stopHandling = context.WithCancelCause(r.handling)
	t.lose = func(cause error) {
		t.stopReading(cause)
		stopHandling(cause)
	}
	t.lock <- struct{}{}
	t.finish = t.stopReading
	context.AfterFunc(t.reading, t.startLeaving)
	return t
}

// startLeaving lets handlers know that the work is about to end.
func (t *task) startLeaving() { t.leavingOnce.Do(func() { close(t.leaving) }) }

// covers reports whether explicit checkpoints cover everything that was
// delivered, or the error with which one of them found the shard lost.
func (t *task) covers() (covered bool, lost error) {
	<-t.lock
	defer t.free()
	return compare(t.lease.Checkpoint(), t.given) >= 0 || rank(t.given) == 0, t.lost
}

// advance notes that everything before pos is done, or was delivered.
func (t *task) advance(pos shardlog.Position) {
	<-t.lock // explicit checkpoints may come at any time
	t.pos = later(pos, t.pos)
	t.given = t.pos
	t.free()
}

// pass is advance for what the handler does not checkpoint, because it did not get
// it, or because it failed with it and the dead letters have it.
func (t *task) pass(pos shardlog.Position) {
	<-t.lock
	t.pos = later(pos, t.pos)
	t.free()
}

// dirty reports whether more is done than the store knows.
func (t *task) dirty() bool {
	return !t.r.o.ExplicitCheckpoints && compare(t.pos, t.lease.Checkpoint()) > 0
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

// advance is the change of a row that stores pos as done. It never goes back.
func advance(pos shardlog.Position) func(*checkpoint.Lease) {
	return func(l *checkpoint.Lease) {
		l.Checkpoint = later(pos, l.Checkpoint)
		l.Switches = 0
		l.Prepared, l.PreparedState = nil, nil
	}
}

// acquire takes the lock of the task.
func (t *task) acquire(ctx context.Context) error {
	select {
	case <-t.lock:
		return nil
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	}
}

func (t *task) free() { t.lock <- struct{}{} }

// inside reports whether a user record's hash key is in the shard's range. Those
// of a straddling aggregate that are not are stored in the other shard too: its
// producer sends the whole aggregate again.
func (t *task) inside(u *kpl.UserRecord) bool {
	if !t.r.keyRanges || !t.info.HashStart.IsSet() || !t.info.HashEnd.IsSet() {
		return true
	}
	h := u.Hash()
	return h.Compare(t.info.HashStart) >= 0 && h.Compare(t.info.HashEnd) <= 0
}
