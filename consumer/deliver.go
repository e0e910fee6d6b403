package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// piece is a run of records that are given to the handler together.
type piece struct {
	records []shardlog.Record
	// end is after the last record, and after what was filtered out behind it.
	end shardlog.Position
	// shardEnd: nothing follows in the shard.
	shardEnd      bool
	behind        time.Duration
	behindRecords int64
	size          int64 // of the records, if they are a whole chunk; else 0
}

// after is the position after the i-th record. Of user records that were
// stored together, only the last is the end of what is stored.
func (p *piece) after(i int) shardlog.Position {
	if i == len(p.records)-1 {
		return p.end
	}
	return afterRecord(p.records, i)
}

// first returns the first n records as a piece.
func (p *piece) first(n int) *piece {
	return &piece{
		records: p.records[:n:n], end: p.after(n - 1), behind: p.behind,
		behindRecords: p.behindRecords + int64(len(p.records)-n),
	}
}

// drop removes the first n records.
func (p *piece) drop(n int) { p.records = p.records[n:] }

// batch cuts the next piece off the records at hand.
func (t *task) batch() *piece {
	c, o := t.chunk, t.r.o
	p := &piece{records: t.rest, end: c.next, shardEnd: c.end, behind: c.behind, behindRecords: c.behindRecords}
	n := min(len(t.rest), o.MaxBatchRecords)
	if n == len(c.records) {
		p.size = c.size
	}
	if o.BatchWindow > 0 {
		size := 0
		for i := range n {
			if size += t.rest[i].Size(); size > o.MaxBatchBytes && i > 0 {
				n = i
				break
			}
		}
	}
	if n < len(t.rest) {
		p = p.first(n)
	}
	t.rest = t.rest[n:]
	return p
}

// deliver calls the handler until all records of the piece are done. It returns
// false when the reading was stopped before.
func (t *task) deliver(p *piece) (done bool, err error) {
	// What is left to do, from the last element to the first: a piece that
	// fails may be divided.
	todo := []*piece{p}
	for attempt := 1; len(todo) > 0; {
		if t.reading.Err() != nil || !t.r.assigner.Valid() {
			return false, nil // a fence is about to come
		}
		cur := todo[len(todo)-1]
		b := t.newBatch(cur, attempt)
		n, err := t.handle(b)
		if t.lost != nil {
			return false, t.lost
		}
		if n > 0 {
			t.advance(cur.after(n - 1))
			attempt = 1 // of the record that is the first one now
		}
		all := n == len(cur.records)
		size := cur.size
		if cur.size = 0; !all || size == 0 {
			size = sizeOf(cur.records[:n])
		}
		t.counted(n, size, err, all)
		if cause := context.Cause(t.handling); errors.Is(cause, ErrLeaseLost) {
			return false, cause
		}
		if n > 0 {
			cur.drop(n)
		}
		if all {
			todo, attempt = todo[:len(todo)-1], 1
		}
		if err == nil {
			if err := t.savePart(len(todo) > 0); err != nil {
				return false, err
			}
			continue
		}
		again, err := t.failed(b, cur, err, all)
		if err != nil {
			return false, err
		}
		switch again {
		case tryLater:
			attempt++
		case tryHalves:
			todo, attempt = halves(todo), 1
		case skipped:
			if attempt = 1; len(cur.records) == 0 {
				todo = todo[:len(todo)-1]
			}
		case nothingLeft:
		}
	}
	return true, nil
}

// savePart writes the checkpoint when a part of a divided batch was done; that
// of a whole one is written by work.
func (t *task) savePart(more bool) error {
	if more && t.due() <= 0 {
		return t.save()
	}
	return nil
}

// halves divides the last piece of todo.
func halves(todo []*piece) []*piece {
	cur := todo[len(todo)-1]
	half := cur.first(len(cur.records) / 2)
	cur.drop(len(half.records))
	return append(todo, half)
}

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

// sizeOf is the sum of the records' sizes.
func sizeOf(records []shardlog.Record) (size int64) {
	for i := range records {
		size += int64(records[i].Size())
	}
	return size
}

// counted updates the figures after a call of the handler.
func (t *task) counted(done int, size int64, err error, all bool) {
	t.r.update(t.id, func(s *shard) {
		s.stats.Delivered += uint64(done)
		s.stats.DeliveredBytes += uint64(size)
		if err != nil {
			s.stats.Failures++
		}
		if all && s.task == t {
			s.stats.Attempts = 0
			s.stats.block("")
		}
	})
}

// next is what becomes of a piece that failed.
type next int

const (
	tryLater    next = iota // the same again, after a pause that was made
	tryHalves               // its halves
	skipped                 // its first records went to the dead letters
	nothingLeft             // all of it was done in spite of the error
)

// failed decides about a piece after a handler's error. What is done is saved,
// because the attempts may go on for long.
func (t *task) failed(b *Batch, cur *piece, cause error, all bool) (next, error) {
	o := t.r.o
	var partial *PartialError
	single := errors.As(cause, &partial) && partial.Index >= 0 && partial.Index < len(b.Records) || len(cur.records) == 1
	pause := o.backoff().Pause(b.Attempt, nil)
	poison := 0
	halve := false
	switch {
	case all:
		pause = 0
	case o.Bisect && !single:
		halve, pause = true, 0
	default:
		if poison = t.poison(b, cur, cause, single); poison > 0 {
			pause = 0
		}
	}
	kind := EventHandlerFailed
	if halve {
		kind = EventBisected
	}
	t.r.emit(Event{Kind: kind, ShardID: t.id, Epoch: b.Epoch, Position: t.pos, Attempt: b.Attempt, Wait: pause, Err: cause})
	if t.storing.Err() == nil {
		if err := t.save(); err != nil {
			return 0, err
		}
	}
	switch {
	case all:
		return nothingLeft, nil
	case halve:
		return tryHalves, nil
	case poison > 0:
		return skipped, t.discard(b, cur, poison, cause)
	}
	t.blocked(fmt.Sprintf("handler, attempt %d: %v", b.Attempt, cause))
	lease.Sleep(t.reading, pause)
	return tryLater, nil
}

// handle makes one call of the handler and returns how many records from the
// first on are done.
func (t *task) handle(b *Batch) (n int, err error) {
	began := time.Now()
	t.r.update(t.id, func(s *shard) {
		t.inHandler++
		if s.task == t {
			s.stats.InHandlerSince = began
		}
	})
	err = recovered(func() error { return t.r.h.Handle(t.handling, b) })
	t.r.update(t.id, func(s *shard) {
		t.inHandler--
		s.stats.HandlerTime += time.Since(began)
		if s.task == t {
			s.stats.InHandlerSince = time.Time{}
		}
	})
	<-t.lock // waits for a Batch.Checkpoint that is under way
	b.over = true
	n = b.done
	settled, settleErr := t.settle(b)
	t.lock <- struct{}{}
	if settleErr != nil {
		return n, settleErr
	}
	if settled >= 0 {
		// The user's transaction decides, whatever the handler returns.
		if n = max(n, settled); err == nil && n < len(b.Records) && settled == 0 {
			err = errRolledBack
		}
	}
	if err == nil {
		return len(b.Records), nil
	}
	var partial *PartialError
	if errors.As(err, &partial) && partial.Index <= len(b.Records) && settled < 0 {
		n = max(n, partial.Index)
	}
	return n, err
}
