package logstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
)

// Do runs apply in the committer, one at a time with everything else that
// writes, and commits its changes, all or none. It returns apply's error, and
// then nothing was changed, or that of the commit. Apply must be quick and
// must not call the log. If ctx ends first the error matches
// shardlog.ErrUnknownOutcome.
func (l *Log) Do(ctx context.Context, apply func(*Tx) error) error {
	// Metadata is little, and what makes room on a full disk may depend on it.
	return l.submit(ctx, &op{apply: apply, small: true})
}

// DoFinally is Do that calls finally once the outcome is certain, which may be
// after ctx has ended and the call has returned. Finally may be called with the
// log locked.
func (l *Log) DoFinally(ctx context.Context, apply func(*Tx) error, finally func()) error {
	queued := false
	err := l.submit(ctx, &op{
		small: true, apply: apply, commit: finally, abort: finally,
		enter: func() error { queued = true; return nil },
	})
	if !queued {
		finally()
	}
	return err
}

// submit adds an operation to the open group and waits for it.
func (l *Log) submit(ctx context.Context, o *op) error {
	o.done = make(chan struct{})
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return l.err
	}
	if o.enter != nil {
		if err := o.enter(); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	l.open.ops = append(l.open.ops, o)
	l.wakeCommitter()
	l.mu.Unlock()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, shardlog.ContextError(ctx))
	}
}

// awaitPublished returns when everything that the store has was published: retention
// removes blocks from the store before it moves the horizon of the view, so a
// block that is not found is missing only if it still is expected then.
// Once a commit has an unknown outcome nobody knows what the store has.
func (l *Log) awaitPublished() error {
	err := l.submit(context.Background(), &op{small: true, apply: func(*Tx) error { return nil }})
	if errors.Is(err, shardlog.ErrClosed) {
		return err
	}
	// That its group failed is the same to it.
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// postpone moves operations to the front of the open group.
func (l *Log) postpone(ops []*op) {
	l.mu.Lock()
	l.open.ops = append(append([]*op(nil), ops...), l.open.ops...)
	l.mu.Unlock()
}
