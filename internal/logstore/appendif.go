package logstore

import (
	"context"

	"github.com/shardlog/shardlog"
)

// AppendIf is Append for records of one shard, on the condition that its last
// record is the one given, or that it never had one if expected is unset. The
// error is a *shardlog.ConflictError otherwise. All records go into one group,
// whatever their size, so that they are stored together or not at all.
func (l *Log) AppendIf(ctx context.Context, s *Shard, expected shardlog.SequenceNumber, records []shardlog.Record) ([]shardlog.SequenceNumber, error) {
	if err := ctx.Err(); err != nil {
		return nil, shardlog.ContextError(ctx)
	}
	l.mu.Lock()
	if err := l.awaitRoom(ctx); err != nil {
		return nil, err
	}
	if err := s.checkExpected(expected); err != nil {
		l.mu.Unlock()
		return nil, err
	}
	if len(records) == 0 {
		l.mu.Unlock() // a group of nothing is never committed
		return nil, nil
	}
	g := l.open
	ms := l.clock.now()
	seqs := make([]shardlog.SequenceNumber, len(records))
	for i := range records {
		seqs[i] = s.add(g, &records[i], ms)
	}
	g.calls++
	l.wakeCommitter()
	l.mu.Unlock()
	if err := g.wait(ctx); err != nil {
		return nil, err
	}
	return seqs, nil
}

// checkExpected checks the condition of AppendIf, with mu held. The last record may
// still be uncommitted; should its group fail, so does the one that follows.
func (s *Shard) checkExpected(expected shardlog.SequenceNumber) error {
	switch {
	case s.log.err != nil:
		return s.log.err
	case s.closed:
		return shardlog.ErrShardClosed
	}
	var actual shardlog.SequenceNumber
	if s.lastAssigned > s.base {
		actual = s.sequence(s.lastAssigned, s.lastMs)
	}
	// The arrival second is not compared: the counter alone names a record.
	if expected.IsSet() != actual.IsSet() || (actual.IsSet() && !s.owns(expected)) ||
		(actual.IsSet() && counterOf(expected) != counterOf(actual)) {
		return &shardlog.ConflictError{Expected: expected, Actual: actual}
	}
	return nil
}
