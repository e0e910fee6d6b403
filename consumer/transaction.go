package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// CheckpointIn stores that everything up to pos is done inside a transaction
// of the caller's own: what the handler writes and the checkpoint are there
// together or not at all, so each record has its effect exactly once. The
// store of the consumer has to be a checkpoint.TxStore for the transaction's
// type. The handler commits the transaction and returns what that returned;
// whether it was committed is then seen in the store, and if it was not the
// batch comes again, even after a nil return.
//
// It may be called once in a call of the handler. Errors are those of
// Batch.Checkpoint, and shardlog.ErrUnsupported when the store cannot do it.
// After an error the transaction must not be committed: after ErrLeaseLost
// another worker has the shard, and after shardlog.ErrConflict an earlier
// transaction of the batch, whose commit seemed to have failed, was made after
// all; the handler returns the error, and what is done does not come again.
func CheckpointIn[Tx any](ctx context.Context, b *Batch, tx Tx, pos shardlog.Position) error {
	const op = "checkpoint in transaction"
	if err := b.usable(op, pos); err != nil {
		return err
	}
	pos = b.upTo(pos)
	t := b.task
	store, ok := t.r.o.Store.(checkpoint.TxStore[Tx])
	if !ok || t.r.o.ExplicitCheckpoints {
		return b.fault(op, fmt.Errorf("%w: by the checkpoint store with a transaction of type %T", shardlog.ErrUnsupported, tx))
	}
	if err := t.acquire(ctx); err != nil {
		return b.fault(op, err)
	}
	defer t.free()
	if err := t.admits(b, pos); err != nil {
		return b.fault(op, err)
	}
	if b.inTx != nil {
		return b.fault(op, fmt.Errorf("%w: called before in this batch", shardlog.ErrConflict))
	}
	for range 3 {
		next := t.lease.Row().Clone()
		advance(pos)(&next)
		got, err := store.UpdateTx(ctx, tx, next)
		if err == nil {
			b.inTx = &got
			return nil
		}
		if !errors.Is(err, shardlog.ErrConflict) && !errors.Is(err, shardlog.ErrNotFound) {
			return b.fault(op, err)
		}
		row, err := t.lease.Refresh(ctx)
		if err == nil && row.Owner != t.lease.Row().Owner {
			err = lease.LostTo(row)
		}
		if err != nil {
			if errors.Is(err, ErrLeaseLost) {
				t.lost = err
			}
			return b.fault(op, err)
		}
		if row.Checkpoint != t.lease.Checkpoint() {
			// Nobody else writes it: a transaction whose commit was thought to
			// have failed was on its way. What it covers is done.
			b.inTx = &row
			return b.fault(op, fmt.Errorf("%w: an earlier transaction was committed after all, up to %v", shardlog.ErrConflict, row.Checkpoint))
		}
		t.lease.Adopt(row) // another worker asks for the shard
	}
	return b.fault(op, fmt.Errorf("%w: the row is changed again and again", checkpoint.ErrUnavailable))
}

// resolveTx finds out the outcome of a transaction with a checkpoint: it returns
// how many records of the batch it covers, 0 when it was rolled back, and -1
// when there was none. The caller has the lock.
func (t *task) resolveTx(b *Batch) (covered int, err error) {
	if b.inTx == nil || t.lost != nil {
		return -1, nil
	}
	for failures := 1; ; failures++ {
		row, err := t.lease.Refresh(t.storing)
		switch {
		case errors.Is(err, ErrLeaseLost):
			t.lost = err
			return 0, err
		case err == nil && row.Checkpoint == b.inTx.Checkpoint && row.Version >= b.inTx.Version && row.Owner == t.lease.Row().Owner:
			t.lease.Adopt(row)
			t.pos = later(row.Checkpoint, t.pos)
			return b.before(row.Checkpoint), nil
		case err == nil:
			t.lease.Adopt(row)
			return 0, nil
		case t.storing.Err() != nil || lease.Permanent(err):
			return 0, err
		}
		pause := t.r.o.backoff().Pause(failures, err)
		t.r.block(t.id, t.epoch, fmt.Sprintf("store, attempt %d: %v", failures, err))
		t.r.emit(Event{Kind: EventStoreFailed, ShardID: t.id, Epoch: t.epoch, Position: t.pos, Attempt: failures, Wait: pause, Err: err})
		lease.Sleep(t.storing, pause)
	}
}
