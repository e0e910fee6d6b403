package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// StartHandler is a Handler that is called when this worker begins with a
// shard, before the first batch: once for each time that it takes the shard.
// After an error or a panic it is called again, after a pause (Options.Retry),
// and no batch comes before it has returned nil.
type StartHandler interface {
	Handler
	StartShard(ctx context.Context, s Start) error
}

// EndHandler is a Handler that is called when all batches of a closed shard
// were handled, also if it had none, before the shard's row shows it and its
// children start. After an error or a panic it is called again, after a pause.
// With Options.ExplicitCheckpoints the shard ends when its last record is
// covered, by a checkpoint during this call or later.
type EndHandler interface {
	Handler
	EndShard(ctx context.Context, e *End) error
}

// StopHandler is a Handler that is called before this worker gives back a shard
// that has not ended: in a shutdown, because another worker is to have it, or
// because of an error. It is called once, and no call for the shard is under
// way. It may still store checkpoints. An error or a panic is reported as an
// event, and the shard is given back anyway.
//
// Its context ends with the patience of a shutdown (Options.ShutdownTimeout),
// and with the lease, which another worker takes after its Options.HandOff.
type StopHandler interface {
	Handler
	StopShard(ctx context.Context, s *Stop) error
}

// LoseHandler is a Handler that is called when the shard is no longer this
// worker's, and when the consumer was closed: nothing can be stored any more.
// It is called once, when no other call of this taking of the shard is under
// way, with a context that has ended. If the same worker takes the shard again
// before a call of the earlier taking has returned, the calls of the two
// takings overlap; their epochs differ.
type LoseHandler interface {
	Handler
	LoseShard(ctx context.Context, l Lost)
}

// Start is where the work on a shard begins. If StartShard returned nil, the
// work ends with exactly one of EndShard, StopShard and LoseShard. Another one
// follows only when the first could not be stored: StopShard or LoseShard after
// an EndShard, LoseShard after a StopShard. If StartShard never returned nil,
// none of them is called. A handler that ends its goroutine gets no further
// call.
type Start struct {
	ShardID string
	// Epoch is the fencing token, as Batch.Epoch.
	Epoch uint64
	// From is the checkpoint: the first batch begins there.
	From shardlog.Position
}

// End is the end of a shard.
type End struct {
	ShardID string
	Epoch   uint64
	// Children are the shards that continue this one.
	Children []string
	// Position is after everything that was delivered.
	Position shardlog.Position

	b *Batch
}

// Checkpoint stores that everything up to pos is done, as Batch.Checkpoint
// does. Pos may be Position, also if the shard was empty.
func (e *End) Checkpoint(ctx context.Context, pos shardlog.Position) error {
	return e.b.checkpointAtEnd(ctx, pos, e.Position)
}

// Stop is the end of this worker's work on a shard that continues elsewhere.
type Stop struct {
	ShardID string
	Epoch   uint64
	// Position is after everything that was delivered and, without
	// Options.ExplicitCheckpoints, handled; that is stored in any case.
	Position shardlog.Position
	// Cause matches ErrShutdown or ErrHandOff, or ErrLeaseLost when the
	// heartbeat is overdue, or is the error with which the shard cannot
	// continue, such as one that matches shardlog.ErrExpired.
	Cause error

	b *Batch
}

// Checkpoint stores that everything up to pos is done, as Batch.Checkpoint
// does. Pos may be Position.
func (s *Stop) Checkpoint(ctx context.Context, pos shardlog.Position) error {
	return s.b.checkpointAtEnd(ctx, pos, s.Position)
}

// Lost says why a shard was lost.
type Lost struct {
	ShardID string
	Epoch   uint64
	// Cause matches ErrLeaseLost, or shardlog.ErrClosed or ErrShutdown when the
	// consumer had no time left.
	Cause error
}

// lastBatch is a batch without records, with which EndShard and StopShard
// store checkpoints.
func (t *task) lastBatch() *Batch {
	return &Batch{ShardID: t.id, Epoch: t.epoch, task: t, piece: &piece{end: t.pos}, seeks: t.seeks}
}

func (b *Batch) checkpointAtEnd(ctx context.Context, pos, end shardlog.Position) error {
	if b == nil { // made by a test
		b = &Batch{}
	} else if pos == end && rank(pos) == 0 {
		return nil // nothing was delivered
	}
	return b.Checkpoint(ctx, pos)
}

// startHandler calls StartShard until it returns nil. False means that reading was
// stopped before.
func (t *task) startHandler() (started bool) {
	h, ok := t.r.h.(StartHandler)
	if !ok {
		return true
	}
	s := Start{ShardID: t.id, Epoch: t.epoch, From: t.pos}
	return t.insist("start", func() error { return h.StartShard(t.handling, s) })
}

// endHandler calls EndShard until it returns nil. False means that reading was
// stopped before.
func (t *task) endHandler(children []string) (ended bool) {
	h, ok := t.r.h.(EndHandler)
	if !ok {
		return true
	}
	return t.insist("end", func() error {
		e := &End{ShardID: t.id, Epoch: t.epoch, Children: children, Position: t.pos, b: t.lastBatch()}
		defer t.close(e.b)
		return h.EndShard(t.handling, e)
	})
}

// insist makes a call until it returns nil, or the reading is stopped.
func (t *task) insist(what string, call func() error) bool {
	for attempt := 1; t.reading.Err() == nil && t.r.assigner.Valid(); attempt++ {
		err := t.call(call)
		if err == nil {
			t.r.block(t.id, t.epoch, "")
			return true
		}
		pause := t.r.o.backoff().Pause(attempt, nil)
		t.r.block(t.id, t.epoch, fmt.Sprintf("%s of the shard, attempt %d: %v", what, attempt, err))
		t.r.emit(Event{Kind: EventHandlerFailed, ShardID: t.id, Epoch: t.epoch, Position: t.pos, Attempt: attempt, Wait: pause, Err: err})
		lease.Sleep(t.reading, pause)
	}
	return false
}

// stopHandler calls StopShard, and then waits for the explicit checkpoints of a
// handler that has asked for that.
func (t *task) stopHandler(cause error) {
	if h, ok := t.r.h.(StopHandler); ok {
		s := &Stop{ShardID: t.id, Epoch: t.epoch, Position: t.pos, Cause: cause, b: t.lastBatch()}
		err := t.call(func() error { return h.StopShard(t.handling, s) })
		t.close(s.b)
		if err != nil {
			t.r.emit(Event{Kind: EventHandlerFailed, ShardID: t.id, Epoch: t.epoch, Position: t.pos, Attempt: 1, Err: err})
		}
	}
	if t.r.o.ExplicitCheckpoints && t.asked.Load() {
		t.awaitCovered(cause)
	}
}

// awaitCovered waits until explicit checkpoints cover what was delivered, for
// no longer than the one waiting for the shard does.
func (t *task) awaitCovered(cause error) {
	patience := t.r.o.ShutdownTimeout
	switch {
	case errors.Is(cause, ErrHandOff):
		patience = t.r.o.HandOff
	case !errors.Is(cause, ErrShutdown):
		return // the shard failed
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		if covered, err := t.covers(); covered || err != nil {
			return
		}
		select {
		case <-t.moved:
		case <-t.handling.Done():
			return
		case <-timer.C:
			return
		}
	}
}

// loseHandler calls LoseShard.
func (t *task) loseHandler(cause error) {
	h, ok := t.r.h.(LoseHandler)
	if !ok {
		return
	}
	ctx, end := context.WithCancelCause(t.handling)
	end(cause)
	err := t.call(func() error {
		h.LoseShard(ctx, Lost{ShardID: t.id, Epoch: t.epoch, Cause: cause})
		return nil
	})
	if err != nil {
		t.r.emit(Event{Kind: EventHandlerFailed, ShardID: t.id, Epoch: t.epoch, Position: t.pos, Attempt: 1, Err: err})
	}
}
