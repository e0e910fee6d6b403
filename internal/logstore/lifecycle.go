package logstore

import (
	"context"

	"github.com/shardlog/shardlog"
)

// Change creates and closes shards in one transaction with changes of the
// caller's own.
type Change struct {
	// Close lists shards that take no more records from now on. What they
	// were given before is committed first.
	Close []*Shard
	// Create lists the shards to be added.
	Create []Config
	// Apply adds the caller's changes; it may read the last counter of a
	// closing shard with LastCounter. It must be quick and must not call the
	// log. Nil for none.
	Apply func(*Tx) error
}

// Change makes a change of the set of shards and returns those created. It
// fails with shardlog.ErrShardClosed if a shard to be closed is closed already.
func (l *Log) Change(ctx context.Context, c Change) ([]*Shard, error) {
	created := make([]*Shard, len(c.Create))
	for i := range c.Create {
		created[i] = l.newShard(c.Create[i])
	}
	o := &op{
		enter: func() error {
			for _, s := range c.Close {
				if s.closed {
					return shardlog.ErrShardClosed
				}
			}
			for _, s := range c.Close {
				s.closed = true
			}
			return nil
		},
		apply: func(tx *Tx) error {
			if c.Apply == nil {
				return nil
			}
			return c.Apply(tx)
		},
		commit: func() {
			l.mu.Lock()
			for _, s := range created {
				l.shards[s.id] = s
			}
			l.mu.Unlock()
			for _, s := range c.Close {
				s.change(func(v *view) { v.closed = true })
			}
		},
		abort: func() {
			for _, s := range c.Close {
				s.closed = false
			}
		},
	}
	if err := l.submit(ctx, o); err != nil {
		return nil, err
	}
	return created, nil
}

// LastCounter returns the counter of the last record that s was given, for
// use in Change.Apply on a shard that is closing: nothing follows it then.
func (s *Shard) LastCounter() uint64 {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.lastAssigned
}

// Drop removes a shard and its records permanently. Apply's changes are committed
// with the first step, after which the shard cannot be read any more.
func (l *Log) Drop(ctx context.Context, s *Shard, apply func(*Tx) error) error {
	var end uint64
	var was bool
	first := &op{
		small: true,
		enter: func() error { was, s.closed = s.closed, true; return nil },
		abort: func() { s.closed = was },
		apply: func(tx *Tx) error {
			if apply == nil {
				return nil
			}
			return apply(tx)
		},
		commit: func() {
			l.mu.Lock()
			delete(l.shards, s.id)
			l.mu.Unlock()
			l.purgedMu.Lock()
			if l.purged == nil || len(l.purged) >= maxPurged {
				l.purged = map[ID]bool{}
			}
			l.purged[s.id] = true
			l.purgedMu.Unlock()
			s.change(func(v *view) { v.closed, end = true, v.last+1 })
		},
	}
	if err := l.submit(ctx, first); err != nil {
		return err
	}
	if err := s.Trim(ctx, end); err != nil {
		return err
	}
	// The horizon goes last: until then it hides what is left.
	return l.submit(ctx, &op{small: true, apply: func(tx *Tx) error {
		tx.Delete(horizonKey(s.id))
		return nil
	}})
}
