package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kpl"
)

// Batch is what a handler gets: records of one shard, in order, at least one
// unless Options.EmptyBatches is set.
//
// The batch and its records belong to the handler, and may be kept. They are
// not copied for another attempt, so a handler that may fail must not change
// them.
type Batch struct {
	// Records are what is to be done. Those of an aggregated record have its
	// number, and differ in SubSequence.
	Records []shardlog.Record
	// ShardID names the shard that holds them.
	ShardID string
	// Behind and BehindRecords are how far the end of the batch was behind
	// the newest record of the shard when it was read; 0 at the tail.
	Behind        time.Duration
	BehindRecords int64
	// Epoch is the fencing token of the shard's lease. It grows with each
	// worker that takes the shard, so a system that remembers the largest one
	// can refuse writes of a worker that was overtaken.
	Epoch uint64
	// ShardEnd is set when nothing follows the batch in its shard. The end may
	// also be found after the last batch; an EndHandler is called in any case.
	ShardEnd bool
	// Attempt counts how often the first record has been tried, from 1 on. An
	// earlier worker's attempts are not known, and halving a batch that failed
	// (Options.Bisect) is none.
	Attempt int
	// Prepared is what the handler, perhaps in another worker, stored last
	// with Prepare, if nothing was checkpointed since; else nil.
	Prepared *Prepared

	task  *task
	piece *piece
	done  int  // records that Checkpoint has covered
	over  bool // the handler has returned
	keyed bool // one of several that are under way in the shard
	inTx  *checkpoint.Lease
	seeks int // how many of the shard were carried out before
}

// After is the position after Records[i], for Checkpoint. It differs from
// shardlog.After where the record is part of an aggregated one that continues in
// the next batch, and for the last record includes what was filtered out behind
// it. It panics if there is no such record.
func (b *Batch) After(i int) shardlog.Position {
	if i == len(b.Records)-1 && b.piece != nil {
		return b.piece.end
	}
	return afterRecord(b.Records, i)
}

// Leaving returns a channel that is closed when this worker is about to stop
// working on the shard: in a shutdown, when another worker is to have the shard,
// when it was lost, and when everything in a closed shard was delivered.
//
// With Options.ExplicitCheckpoints a handler that has asked for the channel of
// any batch of the shard, before its call returned, is given time to store what is done:
// the shard is given back when checkpoints cover what was delivered, at the
// latest after Options.HandOff or ShutdownTimeout. For a handler that never asks
// the shard is given back immediately, as it is without ExplicitCheckpoints. A
// batch that a test made by hand has a nil channel.
func (b *Batch) Leaving() <-chan struct{} {
	if b.task == nil {
		return nil
	}
	b.task.asked.Store(true)
	return b.task.leaving
}

// Prepared is an intention that was stored before it was carried out.
type Prepared struct {
	// Position is up to where the records were about to be done. It may be
	// inside a record with Options.KeepAggregates, if the worker that stored it
	// ran without.
	Position shardlog.Position
	// State is what the handler wanted to remember with it; it is the
	// receiver's own.
	State []byte
}

// errRolledBack is why a batch comes again whose handler returned nil.
var errRolledBack = errors.New("the transaction with the checkpoint was not committed")

// Checkpoint stores immediately that everything up to pos is done, without waiting
// for the end of the batch. Pos is made with shardlog.After or AfterSub from
// the number of a record of this batch; AfterSub may also name a record that is
// no aggregated one. What is stored already is not written again. It blocks for the store and may be called by several goroutines while
// the handler runs; with Options.ExplicitCheckpoints also later.
//
// The error matches ErrBehind or ErrAhead for a position before the checkpoint
// or after the batch, ErrLeaseLost when another worker has the shard,
// shardlog.ErrClosed when the handler has returned already,
// shardlog.ErrUnsupported with Options.PerKey or Lanes, and is otherwise the
// store's or that of ctx; after checkpoint.ErrUnavailable the call may be repeated. Nothing
// was stored if there is an error, unless it also matches
// shardlog.ErrUnknownOutcome: then it may have been.
func (b *Batch) Checkpoint(ctx context.Context, pos shardlog.Position) error {
	pos = b.upTo(pos)
	return b.store(ctx, "checkpoint", pos, advance(pos), true)
}

// upTo returns what is done if pos is: the end of a whole stored record for a
// position that names the last user record of it, or the one that a plain record
// is. Handlers need not know which ones are aggregated; and the end of a shard is
// at whole records.
func (b *Batch) upTo(pos shardlog.Position) shardlog.Position {
	if b.piece == nil || pos.Kind() != shardlog.KindAfter || pos.SubSequence() == shardlog.WholeRecord {
		return pos
	}
	i, ok := slices.BinarySearchFunc(b.Records, pos, func(r shardlog.Record, pos shardlog.Position) int {
		return compare(shardlog.AfterSub(r.Sequence, r.SubSequence), pos)
	})
	if !ok || b.task.r.o.KeepAggregates && kpl.HasMagic(b.Records[i].Data) {
		return pos // the handler itself took the record apart
	}
	return later(pos, b.After(i))
}

// Prepare stores what the handler is about to do: the records up to pos, and
// up to 64 KiB of its own notes, which are copied. The checkpoint stays where
// it is. If the worker ends before it, the next batch of the shard has it in
// Prepared, in whatever worker that is; the next checkpoint removes it. Errors
// are those of Checkpoint, and shardlog.ErrInvalid for a state that is too
// large.
func (b *Batch) Prepare(ctx context.Context, pos shardlog.Position, state []byte) error {
	if len(state) > checkpoint.MaxPreparedState {
		return &shardlog.InvalidError{Field: "State", Value: fmt.Sprintf("of %d bytes", len(state)), Limit: fmt.Sprintf("at most %d bytes", checkpoint.MaxPreparedState)}
	}
	state = append([]byte(nil), state...)
	return b.store(ctx, "prepare", pos, func(l *checkpoint.Lease) {
		l.Prepared, l.PreparedState = &pos, state
	}, false)
}

func (b *Batch) store(ctx context.Context, op string, pos shardlog.Position, change func(*checkpoint.Lease), done bool) error {
	if err := b.usable(op, pos); err != nil {
		return err
	}
	t := b.task
	if err := t.acquire(ctx); err != nil {
		return b.fault(op, err)
	}
	defer t.free()
	if err := t.admits(b, pos); err != nil {
		return b.fault(op, err)
	}
	if ctx.Err() != nil {
		return b.fault(op, shardlog.ContextError(ctx)) // before the store may have written
	}
	if !done || compare(pos, t.lease.Checkpoint()) != 0 {
		if err := t.lease.Update(ctx, change); err != nil {
			if errors.Is(err, ErrLeaseLost) {
				t.lost = err
			}
			return b.fault(op, err)
		}
		if !t.r.o.ExplicitCheckpoints { // else the task may be reading it
			t.saved = time.Now()
		}
	}
	if done {
		t.noteCovered(b, pos)
	}
	return nil
}

// usable checks what does not depend on the state of the shard.
func (b *Batch) usable(op string, pos shardlog.Position) error {
	if !b.endsAt(pos) && (pos.Kind() != shardlog.KindAfter || !pos.Sequence().IsSet()) {
		return &shardlog.InvalidError{Field: "Position", Value: pos, Limit: "after a record of the batch"}
	}
	if b.task == nil {
		return b.fault(op, shardlog.ErrClosed) // a Batch that a test made by hand
	}
	if b.keyed {
		return b.fault(op, fmt.Errorf("%w: several batches of the shard are under way", shardlog.ErrUnsupported))
	}
	return nil
}

// endsAt reports whether pos is the end of the batch, which may also be before a
// record: the source says what follows the last one.
func (b *Batch) endsAt(pos shardlog.Position) bool {
	return b.piece != nil && rank(pos) > 0 && pos == b.piece.end
}

func (b *Batch) fault(op string, err error) error {
	e := &shardlog.Error{Op: op, Shard: b.ShardID, Err: err}
	if b.task != nil {
		e.Stream = b.task.r.o.Stream
	}
	return e
}

// admits returns why b may not store pos. The caller has the lock.
func (t *task) admits(b *Batch, pos shardlog.Position) error {
	explicit := t.r.o.ExplicitCheckpoints
	low, high := t.pos, b.piece.end
	if explicit && !t.over { // from then on the row is the task's alone
		low = t.lease.Checkpoint()
	}
	if explicit && (b.seeks != t.seeks || compare(t.pos, high) > 0) {
		// Everything that was delivered. After a Seek back, what this batch had
		// is to be delivered again, so its end does not count any more.
		high = t.pos
	}
	cause := context.Cause(t.storing)
	switch {
	case errors.Is(cause, ErrLeaseLost):
		return cause
	case t.lost != nil:
		return t.lost
	case t.over, b.over && !explicit, t.storing.Err() != nil:
		return shardlog.ErrClosed
	case compare(pos, low) < 0:
		return ErrBehind
	case compare(pos, high) > 0:
		return ErrAhead
	}
	return nil
}

// noteCovered records that everything up to pos is done and stored. The caller has
// the lock.
func (t *task) noteCovered(b *Batch, pos shardlog.Position) {
	if t.r.o.ExplicitCheckpoints {
		select {
		case t.moved <- struct{}{}:
		default:
		}
		return
	}
	t.pos = pos
	b.done = b.before(pos)
}

// before is how many records are not after pos.
func (b *Batch) before(pos shardlog.Position) (n int) {
	for n < len(b.Records) && compare(afterRecord(b.Records, n), pos) <= 0 {
		n++
	}
	if n == len(b.Records)-1 && compare(pos, b.piece.end) >= 0 {
		n++
	}
	return n
}
