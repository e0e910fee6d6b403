package logstore

import (
	"context"

	"github.com/shardlog/shardlog"
)

// Bounds of what participants may add to one group. The first call that comes with
// participants joins in any case.
const (
	maxParticipants = 128
	// participantsInline is for what the store may keep in its tree, in bytes; with
	// the keys of a group's blocks it stays below maxInline, so that it never
	// keeps other operations out for ever.
	participantsInline = 24 << 10
)

// AppendWith is Append for records that participants accompany. Without records
// it stores only what the participants change. A record that joined no group has an
// error in its result; if none did, the call returns the error.
func (l *Log) AppendWith(ctx context.Context, records []shardlog.Record, targets []*Shard, res []shardlog.PutResult, o *AppendOptions) error {
	if err := ctx.Err(); err != nil {
		return shardlog.ContextError(ctx)
	}
	for from := 0; ; {
		g, to, err := l.enqueueWith(ctx, records, targets, res, from, o)
		if err == nil {
			err = g.wait(ctx)
			if err != nil && (o.Atomic || len(records) == 0) {
				return err
			}
			for i := from; i < to && err != nil; i++ {
				if res[i].Err == nil {
					res[i] = shardlog.PutResult{Err: err}
				}
			}
		} else if from == 0 {
			return err
		}
		if err != nil {
			setErr(res[to:], notTried(err))
			return nil
		}
		if from = to; from == len(records) {
			return nil
		}
	}
}

// enqueueWith adds records to the open group until it is full, together with the
// participants that accompany them. It returns the group and the index of the first record left.
func (l *Log) enqueueWith(ctx context.Context, records []shardlog.Record, targets []*Shard, res []shardlog.PutResult, from int, o *AppendOptions) (*group, int, error) {
	l.mu.Lock()
	for {
		if err := l.awaitRoom(ctx); err != nil {
			return nil, from, err
		}
		if n := len(l.open.attachments); n == 0 || n < maxParticipants && l.open.attachedBytes+o.InlineBytes <= participantsInline {
			break
		}
		if err := l.awaitNext(ctx); err != nil {
			return nil, from, err
		}
	}
	defer l.mu.Unlock()
	if o.Check != nil {
		if err := o.Check(); err != nil {
			return nil, from, err
		}
	}
	for i := from; i < len(records) && o.Atomic; i++ {
		if targets[i].closed {
			return nil, from, shardlog.ErrShardClosed
		}
	}
	g := l.open
	ms := l.clock.now()
	i := from
	for ; i < len(records) && (o.Atomic || g.bytes < groupBytes); i++ {
		s := targets[i]
		if s.closed {
			res[i] = shardlog.PutResult{Err: shardlog.ErrShardClosed}
			continue
		}
		res[i] = shardlog.PutResult{ShardID: s.name, Sequence: s.add(g, &records[i], ms)}
		if o.Arrivals != nil {
			o.Arrivals[i] = s.lastMs
		}
	}
	if o.Joined != nil {
		o.Joined(from, i, g.attach)
	}
	if g.empty() {
		return emptyGroup, i, nil // a group of nothing is never committed
	}
	g.attachedBytes += o.InlineBytes
	g.calls++
	l.wakeCommitter()
	return g, i, nil
}

// emptyGroup stands for the group of a call that had nothing to store.
var emptyGroup = func() *group { g := &group{done: make(chan struct{})}; close(g.done); return g }()

// awaitNext waits, with mu held but not while it waits, until the open group
// was taken. If there is an error, mu is not held any more.
func (l *Log) awaitNext(ctx context.Context) error {
	if l.taken == nil {
		l.taken = make(chan struct{})
	}
	taken := l.taken
	l.mu.Unlock()
	select {
	case <-taken:
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	}
	l.mu.Lock()
	return nil
}
