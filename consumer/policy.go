package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
)

// Permanent marks an error as one that trying again cannot mend, such as a
// record that cannot be decoded: where there are dead letters
// (Options.DeadLetter, Options.Drop), the record goes there at once. Without
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

// DeadLetter is a record that could not be handled.
type DeadLetter struct {
	// Record is the record as the handler got it.
	Record shardlog.Record
	// Err is the last error of the handler.
	Err error
	// Attempts is how often it was tried, 1 or more.
	Attempts int
	// Stream, Group and Epoch tell where and by whom.
	Stream, Group string
	Epoch         uint64
}

// Headers that DeadLettersTo adds to a record.
const (
	HeaderError    = "shardlog-error"
	HeaderOrigin   = "shardlog-origin"
	HeaderAttempts = "shardlog-attempts"
)

// maxDedupID is the longest DedupID, in bytes.
const maxDedupID = 256

// maxErrorHeader bounds the text of an error in a header, in bytes.
const maxErrorHeader = 1000

// DeadLettersTo returns a function for Options.DeadLetter that puts the records
// into a stream: with their own keys, data and headers, and headers that tell
// the error, the place that they come from as "stream/shard/number/index" and
// the number of attempts. A record may be put twice when the worker ends
// before the checkpoint. Where the sink has the capability, the DedupID is the
// origin, so that a stream with a window stores it once.
func DeadLettersTo(sink shardlog.Sink) func(ctx context.Context, d DeadLetter) error {
	dedup := shardlog.CapabilitiesOf(sink).DedupID
	return func(ctx context.Context, d DeadLetter) error {
		origin := fmt.Sprintf("%s/%s/%s/%d", d.Stream, d.Record.ShardID, d.Record.Sequence, d.Record.SubSequence)
		rec := shardlog.Record{PartitionKey: d.Record.PartitionKey, ExplicitHashKey: d.Record.ExplicitHashKey, Data: d.Record.Data}
		if dedup && len(origin) <= maxDedupID {
			rec.DedupID = origin
		}
		rec.Headers = append(rec.Headers, d.Record.Headers...)
		rec.Headers = append(rec.Headers,
			shardlog.Header{Key: HeaderError, Value: shortened(d.Err.Error())},
			shardlog.Header{Key: HeaderOrigin, Value: origin},
			shardlog.Header{Key: HeaderAttempts, Value: fmt.Sprint(d.Attempts)},
		)
		results, err := sink.PutRecords(ctx, []shardlog.Record{rec})
		if err != nil {
			return err
		}
		return results[0].Err
	}
}

// poison decides how many records of a piece that failed are not to be tried
// again; 0 means that all are.
func (t *task) poison(b *Batch, cur *piece, cause error, single bool) int {
	o := t.r.o
	if o.DeadLetter == nil && !o.Drop {
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
		if !t.toDeadLetters(rec, attempts, cause) {
			return nil // stopped before; the record is not done
		}
		t.advance(cur.after(0))
		t.noteDeadLetter(rec, attempts, cause)
		cur.drop(1)
	}
	return t.save()
}

func (t *task) noteDeadLetter(rec shardlog.Record, attempts int, cause error) {
	t.r.update(t.id, func(s *shard) { s.stats.DeadLetters++ })
	t.r.emit(Event{Kind: EventDeadLetter, ShardID: t.id, Epoch: t.epoch, Position: shardlog.At(rec.Sequence), Attempt: attempts, Err: cause})
}

// toDeadLetters tries until the record was taken, or the reading is stopped.
func (t *task) toDeadLetters(rec shardlog.Record, attempts int, cause error) bool {
	o := t.r.o
	if o.DeadLetter == nil {
		return true // Options.Drop
	}
	d := DeadLetter{Record: rec, Err: cause, Attempts: attempts, Stream: o.Stream, Group: o.Group, Epoch: t.epoch}
	for failures := 1; t.reading.Err() == nil; failures++ {
		err := recovered(func() error { return o.DeadLetter(t.handling, d) })
		if err == nil {
			t.blocked("")
			return true
		}
		pause := o.Retry.delay(failures, err)
		t.blocked(fmt.Sprintf("dead letter, attempt %d: %v", failures, err))
		t.r.emit(Event{
			Kind: EventDeadLetterFailed, ShardID: t.id, Epoch: t.epoch, Position: shardlog.At(rec.Sequence),
			Attempt: failures, Wait: pause, Err: err,
		})
		sleep(t.reading, pause)
	}
	return false
}
