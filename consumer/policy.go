package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// Permanent marks an error as one that trying again cannot repair, such as a
// record that cannot be decoded: where there are dead letters
// (Options.DeadLetter, Options.Drop), the record goes there immediately. Without
// them it is tried again like any other, because nothing is skipped unless that
// was asked for. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }

func (e *permanentError) Unwrap() error { return e.err }

// countPoison decides how many records of a piece that failed are not to be tried
// again; 0 means that all are.
func (t *task) countPoison(b *Batch, cur *piece, cause error, single bool) int {
	o := t.r.o
	if o.DeadLetter == nil && !o.Drop {
		return 0
	}
	if t.reading.Err() != nil {
		// The handler may have failed because it was interrupted. The next
		// worker tries it again.
		return 0
	}
	most := len(cur.records)
	if single {
		most = 1
	}
	// An error that is about a later record than the first of this call says
	// nothing yet about how often that one was tried.
	tried := b.Attempt
	if len(cur.records) < len(b.Records) {
		tried = 1
	}
	var fatal *permanentError
	if errors.As(cause, &fatal) || o.MaxAttempts > 0 && tried >= o.MaxAttempts {
		return most
	}
	n := 0
	for o.MaxAge > 0 && n < most && time.Since(cur.records[n].Arrival) > o.MaxAge {
		n++
	}
	return n
}

// discard gives the first n records of a piece to the dead letters, and
// checkpoints behind them. Until that has worked the shard waits.
func (t *task) discard(b *Batch, cur *piece, n int, cause error) error {
	attempts := b.Attempt
	if len(cur.records) < len(b.Records) {
		attempts = 1
	}
	for range n {
		rec := cur.records[0]
		if taken, err := t.toDeadLetters(rec, attempts, cause); err != nil || !taken {
			return err // or stopped before; the record is not done
		}
		t.pass(cur.after(0))
		cur.drop(1)
	}
	return t.save()
}

func (t *task) noteDeadLetter(rec shardlog.Record, attempts int, cause error) {
	t.r.update(t.id, func(s *shard) { s.stats.DeadLetters++ })
	t.r.emit(Event{Kind: EventDeadLetter, ShardID: t.id, Epoch: t.epoch, Position: shardlog.At(rec.Sequence), Attempt: attempts, Err: cause})
}

// toDeadLetters tries until the record was taken or given up (true), or the
// reading is stopped. An error ends the task: the record was refused permanently
// and is not to be given up.
func (t *task) toDeadLetters(rec shardlog.Record, attempts int, cause error) (taken bool, err error) {
	o := t.r.o
	if o.DeadLetter == nil {
		t.noteDeadLetter(rec, attempts, cause)
		return true, nil // Options.Drop
	}
	d := DeadLetter{Record: rec, Err: cause, Attempts: attempts, Stream: o.Stream, Group: o.Group, Epoch: t.epoch}
	for failures := 1; t.reading.Err() == nil; failures++ {
		err := catchPanic(func() error { return o.DeadLetter(t.handling, d) })
		if err == nil {
			t.r.block(t.id, t.epoch, "")
			t.noteDeadLetter(rec, attempts, cause)
			return true, nil
		}
		if refusedForGood(err) {
			return t.onRefused(d, err)
		}
		pause := o.backoff().Pause(failures, err)
		t.r.block(t.id, t.epoch, fmt.Sprintf("dead letter, attempt %d: %v", failures, err))
		t.r.emit(Event{
			Kind: EventDeadLetterFailed, ShardID: t.id, Epoch: t.epoch, Position: shardlog.At(rec.Sequence),
			Attempt: failures, Wait: pause, Err: err,
		})
		lease.Sleep(t.reading, pause)
	}
	return false, nil
}

// onRefused decides about a record that the dead letters will never take.
func (t *task) onRefused(d DeadLetter, cause error) (givenUp bool, err error) {
	t.r.emit(Event{
		Kind: EventDeadLetterRefused, ShardID: t.id, Epoch: t.epoch, Position: shardlog.At(d.Record.Sequence), Attempt: d.Attempts, Err: cause,
	})
	if decide := t.r.o.OnRefused; decide == nil {
		err = cause
	} else {
		err = catchPanic(func() error { return decide(d, cause) })
	}
	if err != nil {
		return false, fmt.Errorf("dead letter refused: %w", err)
	}
	t.r.update(t.id, func(s *shard) { s.stats.Dropped++ })
	return true, nil
}
