package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// Errors of a consumer, in addition to those of packages shardlog and checkpoint.
// ErrLeaseLost and ErrShutdown, and shardlog.ErrClosed after Close, are also
// the causes (context.Cause) of the end of a handler's context.
var (
	// ErrLeaseLost: another worker has taken the shard. Nothing that this one
	// does to it is stored any more.
	ErrLeaseLost = lease.ErrLost
	// ErrShutdown: the consumer is shutting down and its patience is over.
	ErrShutdown = errors.New("consumer is shutting down")
	// ErrHandOff: the shard is handed over to another worker that asks for it.
	ErrHandOff = errors.New("the shard is handed over")
	// ErrHandlerStuck: a handler did not return after its context had ended.
	ErrHandlerStuck = errors.New("handler did not return")
	// ErrLeaseNotHeld: the consumer does not have the shard at this moment.
	ErrLeaseNotHeld = errors.New("the shard is not held by this consumer")
	// ErrBehind: the position is before what is done already.
	ErrBehind = errors.New("position is before the checkpoint")
	// ErrAhead: the position is after the last record of the batch.
	ErrAhead = errors.New("position is after the batch")
)

// Handler processes batches. Run calls it from one goroutine for each shard:
// one call at a time for a shard, and several for different shards. With
// Options.PerKey there are several calls for a shard, but one at a time for a
// partition key. A call for a shard that was lost may still be under way, its
// context ended, when the shard comes back to the same consumer.
//
// A nil return means that the batch is done, and checkpoints it. A
// *PartialError means that the records before its index are done. After any
// other error, and after a panic, which is recovered, nothing of the batch is
// done, except what was checkpointed with Batch.Checkpoint or CheckpointIn.
// What is not done is given again after a pause (Options.Retry), for as long
// as it takes, unless Options limits that or the error is Permanent.
//
// Ctx has the values of Run's context, but does not end with it: it ends when
// a shutdown runs out of patience, when the consumer is closed, or when the
// shard was lost to another worker or may be; context.Cause shows which.
type Handler interface {
	Handle(ctx context.Context, b *Batch) error
}

// HandlerFunc makes a Handler of a function.
type HandlerFunc func(ctx context.Context, b *Batch) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, b *Batch) error { return f(ctx, b) }

// Each makes a Handler of a function for one record. When it fails or panics,
// the records before are done, and that record is the first of the next
// attempt. When ctx ends, it is not called for the rest of the batch.
func Each(f func(ctx context.Context, rec shardlog.Record) error) Handler {
	return HandlerFunc(func(ctx context.Context, b *Batch) error {
		for i := range b.Records {
			if ctx.Err() != nil {
				return &PartialError{Index: i, Err: shardlog.ContextError(ctx)}
			}
			if err := catchPanic(func() error { return f(ctx, b.Records[i]) }); err != nil {
				return &PartialError{Index: i, Err: err}
			}
		}
		return nil
	})
}

// PartialError is what a handler returns when a part of a batch is done:
// everything before Records[Index]. An index outside the batch counts as 0,
// except that the number of records means that all are done.
type PartialError struct {
	// Index is the first record that is not done.
	Index int
	// Err says why.
	Err error
}

// Error describes e in one line.
func (e *PartialError) Error() string {
	return fmt.Sprintf("record %d of the batch: %v", e.Index, e.Err)
}

// Unwrap returns the cause.
func (e *PartialError) Unwrap() error { return e.Err }

// PanicError is what a panic of a handler becomes.
type PanicError struct {
	// Value is what the handler panicked with.
	Value any
	// Stack is the stack of the goroutine at the panic, as text.
	Stack []byte
}

// Error describes e in one line, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Unwrap returns the value of the panic when it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// catchPanic calls f and turns a panic into an error.
func catchPanic(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
