package shard

import (
	"context"
	"iter"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Read returns one page of the records that follow req.From; req.ShardID may be
// left empty. It blocks for at most req.Wait. The page belongs to the caller.
//
// In addition to those of Shard, the error matches shardlog.ErrInvalid for a bad
// request or a position of another shard; shardlog.ErrExpired, as a
// *shardlog.TrimmedError, if retention has removed records after the position;
// shardlog.ErrCorrupt if the next record is damaged; and
// shardlog.ErrThroughputExceeded, with a time to wait, over the read limits.
func (s *Shard) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	return s.read(ctx, "read", req, false)
}

// ReadDedicated is Read for a reader with a throughput of its own, such as a
// registered consumer of Kinesis: read limits neither stop it nor count what
// it reads.
func (s *Shard) ReadDedicated(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	return s.read(ctx, "read", req, true)
}

func (s *Shard) read(ctx context.Context, op string, req shardlog.ReadRequest, dedicated bool) (shardlog.Page, error) {
	if err := s.owner.Enter(ctx, op); err != nil {
		return shardlog.Page{}, err
	}
	if err := s.checkRead(&req); err != nil {
		return shardlog.Page{}, s.owner.Fail(op, err)
	}
	if !dedicated {
		if err := s.owner.AdmitRead(op); err != nil {
			return shardlog.Page{}, err
		}
	}
	p, err := s.s.Read(ctx, req)
	if err == nil && p.End {
		if err = s.owner.AwaitChange(ctx); err == nil {
			p.Children, err = s.owner.Children()
		}
	}
	if err != nil {
		return shardlog.Page{}, s.owner.Fail(op, err)
	}
	s.owner.CountRead(&p, dedicated)
	return p, nil
}

func (s *Shard) checkRead(req *shardlog.ReadRequest) error {
	if req.ShardID != "" && req.ShardID != s.ID() {
		return &shardlog.InvalidError{Field: "ShardID", Value: req.ShardID, Limit: "empty or " + s.ID()}
	}
	return req.Validate()
}

// Resolve returns the place that a position names at this moment, in a form
// that stays: Latest becomes the place after the newest record, TrimHorizon
// and AtTime that of the record that is read first from there. A position inside
// an aggregated record is returned as it is. Read limits do not apply; errors are
// those of Read.
func (s *Shard) Resolve(ctx context.Context, from shardlog.Position) (shardlog.Position, error) {
	p, err := s.ReadDedicated(ctx, shardlog.ReadRequest{From: from, MaxRecords: 1})
	if err != nil {
		return shardlog.Position{}, err
	}
	switch {
	case len(p.Records) == 0:
		return p.Next, nil
	case from.Kind() == shardlog.KindAfter && p.Records[0].Sequence == from.Sequence():
		return from, nil // before the record would undo what is done of it
	}
	return shardlog.At(p.Records[0].Sequence), nil
}

// Records iterates over the records from a position to the tail, and ends
// there; what is written meanwhile is included. Records belong to the caller.
// Read limits do not apply. It blocks only for the storage.
//
// An error is yielded once and ends the iteration, except that of damage,
// which matches shardlog.ErrCorrupt: the iteration continues behind it unless
// the loop is left. Errors are those of Read, but for the limits.
func (s *Shard) Records(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.iterate(ctx, "records", from, logstore.IterateOptions{})
}

// Scan is Records whose records are borrowed, for reading large amounts at the
// highest speed: the record and the bytes of its Data, its strings and its
// Headers are valid until the loop asks for the next one. They must not be
// changed or kept; what is to be kept has to be copied (bytes.Clone,
// strings.Clone). With an error the record is nil.
//
// The loop may take as long as it likes and may call everything, also Close:
// nothing is locked meanwhile. Programs that are built with the race detector
// get each record in memory that is overwritten after the step, so that tests
// find bytes that were kept, and a panic where bytes were changed.
func (s *Shard) Scan(ctx context.Context, from shardlog.Position) iter.Seq2[*shardlog.Record, error] {
	return s.borrow(ctx, "scan", from, logstore.IterateOptions{})
}

// ScanTail is Tail whose records are borrowed, as those of Scan are.
func (s *Shard) ScanTail(ctx context.Context, from shardlog.Position) iter.Seq2[*shardlog.Record, error] {
	return s.borrow(ctx, "tail", from, logstore.IterateOptions{Follow: true})
}

// Tail is Records that follows the shard: at the tail it waits for more. It
// ends at the end of a closed shard, and when ctx ends, with its cause.
func (s *Shard) Tail(ctx context.Context, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return s.iterate(ctx, "tail", from, logstore.IterateOptions{Follow: true})
}

// iterate returns an iterator that several goroutines may use at the same time,
// so the loops share nothing that changes.
func (s *Shard) iterate(ctx context.Context, op string, from shardlog.Position, o logstore.IterateOptions) iter.Seq2[shardlog.Record, error] {
	o = s.options(ctx, op, o)
	return func(yield func(shardlog.Record, error) bool) {
		if err := s.owner.Enter(ctx, op); err != nil {
			yield(shardlog.Record{}, err)
			return
		}
		s.s.Iterate(ctx, from, o)(yield)
	}
}

// borrow is iterate for records that are borrowed.
func (s *Shard) borrow(ctx context.Context, op string, from shardlog.Position, o logstore.IterateOptions) iter.Seq2[*shardlog.Record, error] {
	o = s.options(ctx, op, o)
	return func(yield func(*shardlog.Record, error) bool) {
		if err := s.owner.Enter(ctx, op); err != nil {
			yield(nil, err)
			return
		}
		s.s.Borrow(ctx, from, o)(yield)
	}
}

func (s *Shard) options(ctx context.Context, op string, o logstore.IterateOptions) logstore.IterateOptions {
	o.Wrap = func(err error) error { return s.owner.Fail(op, err) }
	o.End = func() error { return s.owner.AwaitChange(ctx) }
	return o
}
