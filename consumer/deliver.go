package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog/consumer/internal/lease"
)

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
// false when reading was stopped before.
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
		if errors.Is(err, errNotAcknowledged) {
			return false, nil
		}
		all := n == len(cur.records)
		size := cur.size
		if cur.size = 0; !all || size == 0 {
			size = sizeOf(cur.records[:n])
		}
		t.recordCall(n, size, err, all)
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
		again, err := t.decideFailure(b, cur, err, all)
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

// next is what follows for a piece that failed.
type next int

const (
	tryLater    next = iota // the same again, after a pause that was made
	tryHalves               // its halves
	skipped                 // its first records went to the dead letters
	nothingLeft             // all of it was done in spite of the error
)

// decideFailure decides about a piece after a handler's error. What is done is
// saved, because the attempts may continue for long.
func (t *task) decideFailure(b *Batch, cur *piece, cause error, all bool) (next, error) {
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
		if poison = t.countPoison(b, cur, cause, single); poison > 0 {
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
	t.r.block(t.id, t.epoch, fmt.Sprintf("handler, attempt %d: %v", b.Attempt, cause))
	lease.Sleep(t.reading, pause)
	return tryLater, nil
}

// work delivers until the end of the shard, which it returns, until the reading
// is stopped, or until an error that ends the task.
func (t *task) work() (end *chunk, err error) {
	for t.reading.Err() == nil {
		if again, err := t.answerRequests(); err != nil || !again {
			return nil, err
		}
		if len(t.rest) == 0 {
			if err := t.nextChunk(); err != nil {
				return nil, err
			}
			if t.chunk == nil {
				continue
			}
		}
		if len(t.rest) > 0 || t.chunk.idle {
			done, err := t.deliver(t.batch())
			if err != nil || !done {
				return nil, err
			}
		} else if !t.chunk.none {
			t.pass(t.chunk.next) // what was filtered out is done
		}
		if len(t.rest) > 0 {
			continue
		}
		if t.chunk.end {
			return t.chunk, nil
		}
		t.chunk = nil
		if t.due() <= 0 {
			if err := t.save(); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// nextChunk waits for something to do. It returns without a chunk when only
// something else had to be done: a checkpoint that was due, or a request.
func (t *task) nextChunk() error {
	t.chunk = nil
	select {
	case c := <-t.fetch.chunks:
		return t.takeChunk(c)
	default:
	}
	var due <-chan time.Time
	if t.dirty() {
		timer := time.NewTimer(max(t.due(), 0))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case c := <-t.fetch.chunks:
		return t.takeChunk(c)
	case <-due:
		return t.save()
	case <-t.change:
	case <-t.reading.Done():
	}
	return nil
}

func (t *task) takeChunk(c *chunk) error {
	t.fetch.noteTaken(c)
	if c.err != nil {
		return c.err
	}
	t.chunk, t.rest = c, c.records
	return t.gather()
}

// gather waits for more records while the batch is not full, if
// Options.BatchWindow allows that. The checkpoint waits with them.
func (t *task) gather() error {
	o := t.r.o
	if o.BatchWindow <= 0 || t.chunk.end || t.chunk.idle {
		return nil
	}
	timer := time.NewTimer(o.BatchWindow)
	defer timer.Stop()
	for size := t.chunk.size; len(t.rest) < o.MaxBatchRecords && size < int64(o.MaxBatchBytes) && !t.chunk.end; {
		select {
		case c := <-t.fetch.chunks:
			t.fetch.noteTaken(c)
			if c.err != nil {
				// It comes again from a new reader, after these records.
				t.fetch.stop()
				t.fetch = t.fetchFrom(t.chunk.next)
				return nil
			}
			size += c.size
			c.records = append(t.rest, c.records...)
			c.idle, c.none, c.size = false, false, size
			t.chunk, t.rest = c, c.records
		case <-timer.C:
			return nil
		case <-t.reading.Done():
			return nil
		}
	}
	return nil
}
