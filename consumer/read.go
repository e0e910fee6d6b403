package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
)

// maxIdle bounds the pauses between reads of a source that does not wait for
// records although it was asked to.
const maxIdle = time.Second

// read returns a page when there is something to do: records, the end of the
// shard, or a checkpoint that is due. When the run is stopped, the page is
// empty. Errors that may heal are waited out.
func (t *task) read() (*shardlog.Page, error) {
	for failures := 0; ; {
		wait := min(t.r.o.PollWait, max(t.due(), time.Millisecond))
		began := time.Now()
		page, err := t.r.src.Read(t.r.reading, shardlog.ReadRequest{
			ShardID: t.id, From: t.next, MaxRecords: t.r.o.BatchSize, MaxBytes: t.r.o.BatchBytes, Wait: wait,
		})
		if t.r.reading.Err() != nil {
			return &shardlog.Page{Next: t.next}, nil
		}
		if err != nil {
			failures++
			if err := t.readFailed(err, failures); err != nil {
				return nil, err
			}
			continue
		}
		failures = 0
		if page.Next == (shardlog.Position{}) {
			page.Next = t.next // a source that forgot it must not send us back
		}
		t.r.update(t.id, func(s *shard) {
			s.stats.Behind, s.stats.BehindRecords, s.stats.Blocked = page.Behind, page.BehindRecords, ""
		})
		if len(page.Records) > 0 || page.End {
			t.early = 0
			return &page, nil
		}
		t.next = page.Next
		t.idle(time.Since(began), wait)
		if t.due() <= 0 || t.r.reading.Err() != nil {
			return &page, nil
		}
	}
}

// idle slows down when a source returns empty pages without having waited. The
// first time is free: it may have been woken for nothing.
func (t *task) idle(took, wait time.Duration) {
	if took >= wait/2 {
		t.early = 0
		return
	}
	if t.early++; t.early > 1 {
		sleep(t.r.reading, min(maxIdle, wait, 5*time.Millisecond<<min(t.early, 10)))
	}
}

// readFailed waits after an error that may heal, and returns the others.
func (t *task) readFailed(err error, failures int) error {
	kind := EventReadFailed
	switch {
	case errors.Is(err, shardlog.ErrThroughputExceeded):
		kind = EventThrottled
	case errors.Is(err, shardlog.ErrExpired):
		return t.trimmed(err)
	case errors.Is(err, shardlog.ErrNotFound):
		if err := t.missing(); err != nil {
			return err
		}
	case permanent(err):
		return err
	}
	pause := t.r.o.Retry.delay(failures, err)
	t.blocked(fmt.Sprintf("%s, attempt %d: %v", kind, failures, err))
	t.r.emit(Event{
		Kind: kind, ShardID: t.id, Epoch: t.lease.Epoch, Position: t.next,
		Attempt: failures, Wait: pause, Err: err,
	})
	sleep(t.r.reading, pause)
	return nil
}

// trimmed handles records that retention has removed before they were done.
func (t *task) trimmed(err error) error {
	var lost *shardlog.TrimmedError
	if !errors.As(err, &lost) {
		lost = &shardlog.TrimmedError{From: t.next}
	}
	if rank(t.next) == 0 {
		// Reading begins with whatever is left, so nothing is lost.
		if rank(lost.Oldest) == 0 {
			return errGone
		}
		t.next = lost.Oldest
		return nil
	}
	t.r.emit(Event{Kind: EventTrimmed, ShardID: t.id, Epoch: t.lease.Epoch, Position: t.next, Err: err})
	if t.r.o.OnTrimmed == nil {
		return err
	}
	if err := t.r.o.OnTrimmed(t.id, lost); err != nil {
		return err
	}
	t.next = lost.Oldest
	return nil
}

// missing finds out whether a shard that the source did not find is gone; nil
// means that it is not, or that it could not be found out now.
func (t *task) missing() error {
	shards, err := t.r.src.Shards(t.r.reading)
	if t.r.reading.Err() != nil {
		return nil
	}
	if err != nil {
		if permanent(err) {
			return err // the stream itself is gone
		}
		return nil
	}
	for i := range shards {
		if shards[i].ID == t.id {
			return nil
		}
	}
	var unread int64
	t.r.update(t.id, func(s *shard) { unread = s.stats.BehindRecords })
	if unread > 0 {
		lost := &shardlog.TrimmedError{From: t.next, Missed: uint64(unread)}
		if err := t.trimmed(lost); err != nil {
			return err
		}
	}
	return errGone
}
