package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// maxIdle bounds the pauses between reads of a source that does not wait for
// records although it was asked to.
const maxIdle = time.Second

// chunk is a page after it was de-aggregated and filtered.
type chunk struct {
	records []shardlog.Record
	// idle: the page was empty, because the tail was reached; none: it had no
	// records, for whatever reason.
	idle, none bool
	// next is after everything in the page, also what was filtered out.
	next          shardlog.Position
	end           bool
	children      []string
	behind        time.Duration
	behindRecords int64
	size          int64
	// err ends the reading; there are no records with it.
	err error
}

// fetcher reads a shard ahead of its handler, in a goroutine of its own.
type fetcher struct {
	t      *task
	ctx    context.Context
	cancel context.CancelFunc
	next   shardlog.Position
	// skip is the place inside an aggregated record up to which its user
	// records are done.
	skip  shardlog.Position
	early int // reads in a row that came back without having waited
	// unpaid is the size of the last page, and paid up to when the pages
	// before it have used up the shard's rate; see pace.
	unpaid int64
	paid   time.Time

	chunks chan *chunk
	popped chan struct{} // has a token when a chunk was taken out
	done   chan struct{}
}

// queue is how many pages may wait for the handler. The bytes are bounded by
// Options.PrefetchBytes.
const queue = 16

func (t *task) fetchFrom(pos shardlog.Position) *fetcher {
	f := &fetcher{t: t, next: pos, skip: pos, chunks: make(chan *chunk, queue), popped: make(chan struct{}, 1), done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(t.reading)
	go f.run()
	return f
}

// stop ends the reading and forgets what was read.
func (f *fetcher) stop() {
	f.cancel()
	<-f.done
	for {
		select {
		case c := <-f.chunks:
			f.t.r.prefetched.Add(-c.size)
		default:
			return
		}
	}
}

// noteTaken records that a chunk was taken out of chunks.
func (f *fetcher) noteTaken(c *chunk) {
	f.t.r.prefetched.Add(-c.size)
	select {
	case f.popped <- struct{}{}:
	default:
	}
}

func (f *fetcher) run() {
	defer close(f.done)
	defer f.t.r.goroutines.Leave(f.t.r.goroutines.Enter())
	for f.ctx.Err() == nil {
		// There is always room for one page of each shard; more of them share
		// the bytes that all shards may have.
		for len(f.chunks) > 0 && f.t.r.prefetched.Load() >= f.t.r.o.PrefetchBytes {
			select {
			case <-f.popped:
			case <-f.ctx.Done():
				return
			}
		}
		f.pace()
		page, err := f.read()
		if f.ctx.Err() != nil {
			return
		}
		if err != nil {
			f.hand(&chunk{err: err})
			return
		}
		if !f.emit(page) || page.End {
			return
		}
	}
}

// hand gives a chunk to the task; false means that the reading was ended.
func (f *fetcher) hand(c *chunk) bool {
	f.t.r.prefetched.Add(c.size)
	select {
	case f.chunks <- c:
		return true
	case <-f.ctx.Done():
		f.t.r.prefetched.Add(-c.size)
		return false
	}
}

func (f *fetcher) filter(c *chunk) {
	keep := f.t.r.o.Filter
	if keep == nil {
		return
	}
	kept := c.records[:0]
	for i := range c.records {
		if keep(&c.records[i]) {
			kept = append(kept, c.records[i])
		}
	}
	clear(c.records[len(kept):])
	c.records = kept
}

// read returns a page when there is something to do: records, the end of the
// shard, or an empty page for handlers that want to know. Errors that may heal
// are waited out.
func (f *fetcher) read() (*shardlog.Page, error) {
	t, o := f.t, f.t.r.o
	for failures := 0; ; {
		began := time.Now()
		page, err := t.r.read(f.ctx, shardlog.ReadRequest{
			ShardID: t.id, From: f.next, MaxRecords: o.MaxBatchRecords, MaxBytes: o.MaxBatchBytes, Wait: o.PollWait,
		})
		if f.ctx.Err() != nil {
			return &shardlog.Page{Next: f.next}, nil
		}
		if err != nil {
			failures++
			if err := f.handleReadError(err, failures); err != nil {
				return nil, err
			}
			continue
		}
		failures = 0
		if page.Next == (shardlog.Position{}) {
			page.Next = f.next // a source that forgot it must not send us back
		}
		t.r.update(t.id, func(s *shard) {
			if s.duty == t.duty {
				s.stats.Behind, s.stats.BehindRecords, s.trouble = page.Behind, page.BehindRecords, ""
			}
		})
		if len(page.Records) > 0 || page.End {
			f.early = 0
			if o.FanOut {
				f.unpaid += sizeOf(page.Records)
			}
			return &page, nil
		}
		f.next = page.Next
		f.idle(time.Since(began), o.PollWait)
		if o.EmptyBatches && f.ctx.Err() == nil {
			return &page, nil
		}
	}
}

// idle slows down when a source returns empty pages without having waited. The
// first time is free: it may have been woken for nothing.
func (f *fetcher) idle(took, wait time.Duration) {
	if took >= wait/2 {
		f.early = 0
		return
	}
	if f.early++; f.early > 1 {
		lease.Sleep(f.ctx, min(maxIdle, wait, 5*time.Millisecond<<min(f.early, 10)))
	}
}

// handleReadError waits after an error that may heal, and returns the others.
func (f *fetcher) handleReadError(err error, failures int) error {
	t, kind := f.t, EventReadFailed
	if lease.Permanent(err) {
		if e := f.checkStream(err); e != nil {
			return e
		}
	}
	switch {
	case errors.Is(err, shardlog.ErrThroughputExceeded):
		kind = EventThrottled
	case errors.Is(err, shardlog.ErrExpired):
		return f.handleTrimmed(err)
	case errors.Is(err, shardlog.ErrNotFound):
		if err := f.findMissing(); err != nil {
			return err
		}
	case lease.Permanent(err):
		return err
	}
	pause := t.r.o.backoff().Pause(failures, err)
	t.r.update(t.id, func(s *shard) {
		if s.duty == t.duty {
			s.trouble = fmt.Sprintf("%s, attempt %d: %v", kind, failures, err)
			s.stats.Throttled += b2u(kind == EventThrottled)
		}
	})
	t.r.emit(Event{
		Kind: kind, ShardID: t.id, Epoch: t.epoch, Position: f.next,
		Attempt: failures, Wait: pause, Err: err,
	})
	lease.Sleep(f.ctx, pause)
	return nil
}

// checkStream returns an error that matches shardlog.ErrConflict if a read
// failed because the source finds its stream by name, and another one has that
// name now: to it, the position means nothing, or something else.
func (f *fetcher) checkStream(cause error) error {
	src, ok := f.t.r.src.(shardlog.Identified)
	if !ok || f.t.streamID == "" {
		return nil
	}
	id, err := src.StreamID(f.ctx)
	if err != nil || id == "" || id == f.t.streamID {
		return nil
	}
	return fmt.Errorf("%w: the stream was deleted and created again: it has the ID %q, and the checkpoint is of %q: %v",
		shardlog.ErrConflict, id, f.t.streamID, cause)
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// handleTrimmed handles records that retention has removed before they were done.
func (f *fetcher) handleTrimmed(err error) error {
	var lost *shardlog.TrimmedError
	if !errors.As(err, &lost) {
		lost = &shardlog.TrimmedError{From: f.next}
	}
	if rank(f.next) == 0 {
		// Reading begins with whatever is left, so nothing is lost.
		if rank(lost.Oldest) == 0 {
			return errGone
		}
		f.next = lost.Oldest
		return nil
	}
	t := f.t
	t.r.emit(Event{Kind: EventTrimmed, ShardID: t.id, Epoch: t.epoch, Position: f.next, Err: err})
	if t.r.o.OnTrimmed == nil {
		return err
	}
	if err := t.r.o.OnTrimmed(t.id, lost); err != nil {
		return err
	}
	f.next = lost.Oldest
	return nil
}

// findMissing finds out whether a shard that the source did not find is gone; nil
// means that it is not, or that it could not be found out now.
func (f *fetcher) findMissing() error {
	t := f.t
	shards, err := t.r.src.Shards(f.ctx)
	if f.ctx.Err() != nil {
		return nil
	}
	if err != nil {
		if lease.Permanent(err) {
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
		if err := f.handleTrimmed(&shardlog.TrimmedError{From: f.next, Missed: uint64(unread)}); err != nil {
			return err
		}
	}
	return errGone
}
