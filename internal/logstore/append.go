package logstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Append stores records, record i on the shard targets[i], and returns when
// they are as durable as the store makes them. Results gets one result for
// each; res[i].Err is shardlog.ErrShardClosed where the shard was closed
// before the record's turn. The records are encoded before it returns, so
// their memory is the caller's again.
//
// The error is that of the whole call: the log was closed, or ctx ended before
// anything was written. If ctx ends later, the results of what was under way
// match shardlog.ErrUnknownOutcome.
func (l *Log) Append(ctx context.Context, records []shardlog.Record, targets []*Shard, res []shardlog.PutResult) error {
	return l.appendAll(ctx, input{records: records}, targets, res)
}

// AppendRun is Append for records that are encoded already.
func (l *Log) AppendRun(ctx context.Context, run block.Run, targets []*Shard, res []shardlog.PutResult) error {
	return l.appendAll(ctx, input{run: run}, targets, res)
}

// input is what a call appends: records, or, if run is set, encoded ones.
type input struct {
	records []shardlog.Record
	run     block.Run
}

func (in *input) len() int {
	if in.run != nil {
		return in.run.Len()
	}
	return len(in.records)
}

func (l *Log) appendAll(ctx context.Context, in input, targets []*Shard, res []shardlog.PutResult) error {
	if err := ctx.Err(); err != nil {
		return shardlog.ContextError(ctx)
	}
	n := in.len()
	if len(targets) != n || len(res) != n || slices.Contains(targets, nil) {
		return &shardlog.InvalidError{Field: "targets and results", Value: fmt.Sprintf("%d and %d, or a nil shard", len(targets), len(res)),
			Limit: fmt.Sprintf("a shard and a result for each of the %d records", n)}
	}
	for from := 0; from < n; {
		g, to, err := l.enqueue(ctx, &in, targets, res, from)
		if err != nil {
			if from == 0 {
				return err
			}
			setErr(res[from:], err)
			return nil
		}
		if g == nil {
			from = to // they are stored, or for shards that are closed
			continue
		}
		if err := g.wait(ctx); err != nil {
			failed(res[from:to], err)
			// What follows was not tried: stored behind a gap it would be out
			// of order once the failed records are tried again.
			setErr(res[to:], notTried(err))
			return nil
		}
		from = to
	}
	return nil
}

// failed notes the error of a group in the results of a call's records.
func failed(res []shardlog.PutResult, err error) {
	for i := range res {
		if res[i].Err == nil {
			res[i] = shardlog.PutResult{Err: err}
		}
	}
}

// notTried is the error of records behind others that failed with err: what is
// unknown of those is certain of these.
func notTried(err error) error {
	if errors.Is(err, shardlog.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %v", shardlog.ErrNotTried, err)
	}
	return err
}

// AppendOne is Append for one record.
func (l *Log) AppendOne(ctx context.Context, s *Shard, r *shardlog.Record) (shardlog.SequenceNumber, error) {
	if ctx.Err() != nil {
		return shardlog.SequenceNumber{}, shardlog.ContextError(ctx)
	}
	l.mu.Lock()
	if err := l.awaitRoom(ctx); err != nil {
		return shardlog.SequenceNumber{}, err
	}
	if s.closed {
		l.mu.Unlock()
		return shardlog.SequenceNumber{}, shardlog.ErrShardClosed
	}
	ms := l.clock.now()
	seq, ok := l.appendOneInstantly(s, r, ms)
	if ok {
		l.mu.Unlock()
		return seq, nil
	}
	g := l.open
	seq = s.add(g, r, ms)
	g.calls++
	l.wakeCommitter()
	l.mu.Unlock()
	if err := g.wait(ctx); err != nil {
		return shardlog.SequenceNumber{}, err
	}
	return seq, nil
}

func setErr(res []shardlog.PutResult, err error) {
	for i := range res {
		res[i] = shardlog.PutResult{Err: err}
	}
}

// enqueue adds records to the open group until it is full, and returns the group, nil
// if none of them needs it any more, and the index of the first that was not dealt with.
func (l *Log) enqueue(ctx context.Context, in *input, targets []*Shard, res []shardlog.PutResult, from int) (*group, int, error) {
	l.mu.Lock()
	if err := l.awaitRoom(ctx); err != nil {
		return nil, from, err
	}
	ms := l.clock.now()
	i, n := from, in.len()
	if l.appendInstantly(in, targets, res, from, ms) {
		l.mu.Unlock()
		return nil, n, nil
	}
	g, none := l.open, true
	var it block.Encoded
	for ; i < n && g.bytes < groupBytes; i++ {
		s := targets[i]
		if s.closed {
			res[i] = shardlog.PutResult{Err: shardlog.ErrShardClosed}
			continue
		}
		none = false
		var seq shardlog.SequenceNumber
		if in.run == nil {
			seq = s.add(g, &in.records[i], ms)
		} else {
			in.run.At(i, &it)
			seq = s.addEncoded(g, &it, ms)
		}
		res[i] = shardlog.PutResult{ShardID: s.name, Sequence: seq}
	}
	if none {
		l.mu.Unlock() // a group of nothing is never committed
		return nil, i, nil
	}
	g.calls++
	l.wakeCommitter()
	l.mu.Unlock()
	return g, i, nil
}

// awaitRoom waits, with mu held but not while it waits, until the open group
// takes more. If there is an error, mu is not held any more.
func (l *Log) awaitRoom(ctx context.Context) error {
	if l.stalled.Load() {
		l.stall(ctx)
		if ctx.Err() != nil {
			l.mu.Unlock()
			return shardlog.ContextError(ctx)
		}
	}
	for l.err == nil && l.open.bytes >= groupBytes {
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
	}
	if err := l.err; err != nil {
		l.mu.Unlock()
		return err
	}
	return nil
}

// clockTolerance is how far a clock may step back without arrivals following it.
// The effect of a clock that was ahead by less ends within that time.
const clockTolerance = time.Hour

// arrive notes the time at which the next record arrives, with mu held. If the
// clock has stepped back by more than clockTolerance, it was wrong before or is
// wrong now. Arrivals follow it in either case, because a time that was once too
// late would otherwise be that of all that is written until then; see
// view.believed for how such times are read. Within a block they do not step
// back.
func (s *Shard) arrive(ms int64) {
	switch {
	case ms >= s.lastMs:
		s.lastMs = ms
	case s.lastMs-ms > clockTolerance.Milliseconds():
		s.lastMs = ms
		if s.part != nil {
			s.fullBytes += s.part.b.Len()
			s.part = nil
		}
	}
}

// add encodes a record into the group's part of the shard, with mu held, and
// returns its sequence number.
func (s *Shard) add(g *group, r *shardlog.Record, ms int64) shardlog.SequenceNumber {
	p, counter := s.nextIn(g, block.EncodedSize(r), ms)
	p.b.Append(r, s.lastMs)
	p.bytes += int64(r.Size())
	return s.sequence(counter, s.lastMs)
}

// addEncoded is add for a record that is encoded already.
func (s *Shard) addEncoded(g *group, it *block.Encoded, ms int64) shardlog.SequenceNumber {
	p, counter := s.nextIn(g, it.EncodedSize(), ms)
	p.b.AppendEncoded(it, s.lastMs)
	p.bytes += int64(it.Size())
	return s.sequence(counter, s.lastMs)
}

// nextIn returns the group's part of the shard that takes a record of an encoded
// size, and the record's counter. Mu is held.
func (s *Shard) nextIn(g *group, size int, ms int64) (p *part, counter uint64) {
	s.arrive(ms)
	counter = s.next
	s.next++
	s.lastAssigned = counter
	p = s.part
	if p == nil || !p.block.IsZero() || p.b.Len() >= blockBytes || (p.b.Len() > 0 && p.b.Len()+size > 2*blockBytes) {
		if p != nil {
			s.fullBytes += p.b.Len()
		}
		// What came in the last group is the best guess.
		p = s.log.spare.take(s, counter, max(size, min(s.expectedBytes-s.fullBytes, blockBytes+size)))
		s.part = p
		g.parts = append(g.parts, p)
	}
	g.bytes += size
	return p, counter
}
