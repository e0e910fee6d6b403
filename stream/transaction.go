package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Bounds of a transaction. They follow from those of one of the storage
// engine's.
const (
	// MaxTxBytes bounds the records of a transaction, in bytes of data, keys,
	// headers and dedup IDs.
	MaxTxBytes = maxAtomic
	// MaxTxRecords bounds their number.
	MaxTxRecords = 100_000
	// MaxTxRows bounds the checkpoint rows of a transaction.
	MaxTxRows = 64
	// maxTxInline bounds the bytes of those rows that the storage engine keeps
	// in its tree.
	maxTxInline = 48 << 10
)

// Tx collects records of any shards and streams of one database, and
// checkpoints, that are to be stored together or not at all. Use DB.Begin. It
// holds nothing until Commit, so one that is not committed may be dropped. It is
// not safe for concurrent use.
type Tx struct {
	db      *DB
	streams []*txStream // in the order of their first record
	order   []txIndex   // of the records
	rows    []checkpoint.Lease
	bytes   int
	err     error // the first fault of a Put
	over    bool
	// only is the shard on which all records must belong; nil for any.
	only *logstore.Shard
}

// txStream are the records of a stream.
type txStream struct {
	st      *Stream
	records []shardlog.Record
}

// txIndex is where a record is: the stream's index, and the record's in it.
type txIndex struct{ stream, record int32 }

// TxResult is what a transaction has stored.
type TxResult struct {
	// Records has a result for each record, in the order in which they were
	// put. None has an error; Duplicate is set for one whose DedupID was
	// stored before.
	Records []shardlog.PutResult
	// Checkpoints are the rows as they are now, in their order.
	Checkpoints []checkpoint.Lease
}

// Begin returns an empty transaction.
func (db *DB) Begin() *Tx { return &Tx{db: db} }

// Put adds records of a stream. They are kept until Commit returns and must not
// be changed before; records of one partition key keep their order. Faults are
// reported by Commit.
func (tx *Tx) Put(st *Stream, records ...shardlog.Record) {
	if st == nil || st.db != tx.db {
		tx.fault(&shardlog.InvalidError{Field: "stream", Value: nameOf(st), Limit: "one of the transaction's database"})
		return
	}
	if len(tx.order)+len(records) > MaxTxRecords {
		tx.fault(&shardlog.InvalidError{Field: "Tx", Value: fmt.Sprintf("of %d records", len(tx.order)+len(records)), Limit: fmt.Sprintf("at most %d records", MaxTxRecords)})
		return
	}
	index := slices.IndexFunc(tx.streams, func(s *txStream) bool { return s.st == st })
	if index < 0 {
		index = len(tx.streams)
		tx.streams = append(tx.streams, &txStream{st: st})
	}
	s := tx.streams[index]
	for i := range records {
		r := &records[i]
		tx.bytes += r.Size() + len(r.DedupID)
		tx.order = append(tx.order, txIndex{int32(index), int32(len(s.records) + i)})
	}
	s.records = append(s.records, records...)
}

func nameOf(st *Stream) string {
	if st == nil {
		return "nil"
	}
	return st.name
}

func (tx *Tx) fault(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// Checkpoint adds a row of DB.Checkpoints, as Store.Update would store it: on
// the condition that the row's Version is l.Version. With Version 0 it is created,
// as by Store.Create.
func (tx *Tx) Checkpoint(l checkpoint.Lease) { tx.rows = append(tx.rows, l.Clone()) }

// Commit stores everything, in one transaction of the storage engine, as
// durably as records are; or nothing, also if the process is killed meanwhile.
// It blocks until that is done. A reader of a shard sees all of the
// transaction's records there or none; one who looks at several shards, or at a
// row, may see some of them a moment before the others, and never any of a
// transaction that fails.
//
// It waits for other writers of the same rows, and writers of the same rows
// wait for it; it blocks nobody else. Reshards wait for it, as for any writer.
//
// The error matches shardlog.ErrInvalid, with all faults, for bad records and
// rows and where a bound is broken (MaxTxBytes, MaxTxRecords, MaxTxRows);
// ErrConflict, ErrNotFound or ErrExists for a row that is not as expected;
// ErrThroughputExceeded with a time to wait if a shard's limit does not admit
// its records; ErrNotFound for a stream that was deleted; ErrNoSpace,
// ErrStorage or ErrClosed; or ErrUnknownOutcome if ctx ends while the
// transaction is under way. Then its rows show whether it was stored, and so do
// its records' dedup IDs when they are put again. After any error but the last,
// nothing was stored, and Commit may be called again. After it returned nil it
// must not be called again.
func (tx *Tx) Commit(ctx context.Context) (TxResult, error) {
	if err := tx.db.enter(ctx, "commit", ""); err != nil {
		return TxResult{}, err
	}
	res, err := tx.commit(ctx)
	if err != nil {
		var retry time.Duration
		var e *shardlog.Error
		if errors.As(err, &e) {
			retry = e.RetryAfter
		}
		return TxResult{}, &shardlog.Error{Op: "commit", RetryAfter: retry, Err: err}
	}
	tx.over = true
	return res, nil
}

func (tx *Tx) commit(ctx context.Context) (TxResult, error) {
	if err := tx.check(); err != nil {
		return TxResult{}, err
	}
	rows, err := tx.lockRows(ctx)
	if err != nil {
		return TxResult{}, err
	}
	joined := false
	defer func() {
		if !joined {
			rows.unlock()
		}
	}()
	if err := rows.decide(tx.rows); err != nil {
		return TxResult{}, err
	}
	for {
		t := newTxTry(tx, rows)
		wait, err := t.try(ctx)
		joined = joined || t.joined
		if err != nil {
			return TxResult{}, err
		}
		if wait == nil {
			return TxResult{Records: t.results(tx), Checkpoints: rows.leases}, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return TxResult{}, shardlog.ContextError(ctx)
		case <-tx.db.quit:
			return TxResult{}, shardlog.ErrClosed
		}
	}
}

// check finds the faults of the transaction.
func (tx *Tx) check() error {
	errs := []error{tx.err}
	invalid := func(value, limit string, args ...any) {
		errs = append(errs, &shardlog.InvalidError{Field: "Tx", Value: value, Limit: fmt.Sprintf(limit, args...)})
	}
	if tx.over {
		invalid("committed", "one that was not committed yet")
	}
	if tx.bytes > MaxTxBytes {
		invalid(fmt.Sprintf("of %d bytes", tx.bytes), "at most %d bytes of records", MaxTxBytes)
	}
	for i, at := range tx.order {
		s := tx.streams[at.stream]
		meta := s.st.meta.Load()
		if err := checkRecord(&s.records[at.record], min(meta.MaxRecordSize, tx.db.largestRecord()), meta.idRule()); err != nil {
			err.Field = fmt.Sprintf("records[%d].%s", i, err.Field)
			if errs = append(errs, err); len(errs) == 10 {
				break
			}
		}
	}
	if len(tx.rows) > MaxTxRows {
		invalid(fmt.Sprintf("of %d checkpoints", len(tx.rows)), "at most %d checkpoints", MaxTxRows)
		return errors.Join(errs...)
	}
	seen := map[checkpoint.Key]bool{}
	for i := range tx.rows {
		if seen[tx.rows[i].Key] {
			invalid(fmt.Sprintf("with two checkpoints of %v", tx.rows[i].Key), "one of each row")
		}
		seen[tx.rows[i].Key] = true
		errs = append(errs, tx.rows[i].Validate())
	}
	return errors.Join(errs...)
}

// maxAtomic bounds what PutIf stores in one transaction.
const maxAtomic = 16 << 20
