package consumer

import (
	"errors"
	"time"
)

func (t *task) newBatch(p *piece, attempt int) *Batch {
	t.r.update(t.id, func(s *shard) { s.stats.Attempts = attempt })
	b := &Batch{
		Records: p.records, ShardID: t.id, Behind: p.behind, BehindRecords: p.behindRecords,
		Epoch: t.epoch, ShardEnd: p.shardEnd, Attempt: attempt, task: t, piece: p,
	}
	<-t.lock
	defer t.free()
	b.seeks = t.seeks
	if l := t.lease.Row(); l.Prepared != nil {
		b.Prepared = &Prepared{Position: *l.Prepared, State: append([]byte(nil), l.PreparedState...)}
	}
	return b
}

// call makes a call of the user's handler, for which a shutdown waits, and
// turns a panic into an error.
func (t *task) call(f func() error) error {
	began := time.Now()
	t.r.update(t.id, func(s *shard) {
		t.inHandler++
		if s.duty == t.duty {
			s.stats.InHandlerSince = began
		}
	})
	err := catchPanic(f)
	t.r.update(t.id, func(s *shard) {
		t.inHandler--
		s.stats.HandlerTime += time.Since(began)
		if s.duty == t.duty {
			s.stats.InHandlerSince = time.Time{}
		}
	})
	return err
}

// close ends the time in which a batch may store checkpoints, unless they are
// explicit.
func (t *task) close(b *Batch) {
	<-t.lock
	b.over = true
	t.free()
}

// handle makes one call of the handler and returns how many records from the
// first on are done.
func (t *task) handle(b *Batch) (n int, err error) {
	all := len(b.piece.records) // b.Records is the handler's, which may filter it
	err = t.call(func() error { return t.r.h.Handle(t.handling, b) })
	<-t.lock // waits for a Batch.Checkpoint that is under way
	b.over = true
	n = b.done
	settled, settleErr := t.resolveTx(b)
	t.lock <- struct{}{}
	if settleErr != nil {
		return n, settleErr
	}
	if settled >= 0 {
		// The user's transaction decides, whatever the handler returns.
		if n = max(n, settled); err == nil && n < all && settled == 0 {
			err = errRolledBack
		}
	}
	if err == nil {
		return all, nil
	}
	var partial *PartialError
	if errors.As(err, &partial) && partial.Index <= all && settled < 0 {
		n = max(n, partial.Index)
	}
	return n, err
}

// recordCall updates the figures after a call of the handler.
func (t *task) recordCall(done int, size int64, err error, all bool) {
	t.r.update(t.id, func(s *shard) {
		s.stats.Delivered += uint64(done)
		s.stats.DeliveredBytes += uint64(size)
		if err != nil {
			s.stats.Failures++
		}
		if all && s.duty == t.duty {
			s.stats.Attempts = 0
			s.stats.block("")
		}
	})
}
