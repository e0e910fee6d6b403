package producer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shardlog/shardlog"
)

// Options say how a Producer works. The zero value of a field means its
// default.
type Options struct {
	// MaxBatchRecords is the largest number of records in a request, at most
	// 10,000. Kinesis takes 500 (API reference, PutRecords); more can pay for
	// a sink in the same process. Defaults to 500.
	MaxBatchRecords int
	// MaxBatchBytes bounds the sizes of a request's records together, in
	// bytes, at most 64 MiB. Kinesis takes 10 MiB. Defaults to 10 MiB.
	MaxBatchBytes int
	// MaxInFlight is how many requests may be at the sink at a time, at most
	// 1,024. Records of one partition key are never in two of them, and a
	// further one is started only for a full request's worth of records or
	// for a record that has waited for 5 ms, because fewer and larger
	// requests cost less. Defaults to 4.
	MaxInFlight int
	// Linger is how long a record may wait for others before a request is
	// sent, when none is in flight. Put, PutBatch, Flush and Shutdown do not
	// wait for it. Defaults to 0: records go at once.
	Linger time.Duration

	// BufferRecords bounds the records that are not done: queued, in flight,
	// waiting for a retry, or waiting for their callback to return. Defaults
	// to 100,000.
	BufferRecords int
	// BufferBytes bounds the sizes of these records together, in bytes.
	// Defaults to 64 MiB.
	BufferBytes int64
	// WhenFull says what Put, PutAsync and PutBatch do when the buffer is
	// full. Defaults to Block.
	WhenFull WhenFull
	// MaxRecordSize is the largest record that is taken, in bytes of data, key
	// and headers, at most shardlog.MaxRecordSize, MaxBatchBytes and
	// BufferBytes. A stream may have a smaller limit of its own. Defaults to
	// shardlog.MaxRecordSize, or the smallest of the three.
	MaxRecordSize int
	// BorrowData saves the copy of each record's Data and Headers. They must
	// then not change until the record's result is there, and not at all any
	// more if that matches shardlog.ErrUnknownOutcome, because the sink may
	// still be reading them. Defaults to copying before the call returns.
	BorrowData bool

	// Order says how the order of a partition key is kept. Defaults to
	// OrderPerKey.
	Order Order
	// TTL is how long a record may take from its acceptance into the buffer
	// until it is stored; then it fails with ErrTTLExpired, or with
	// shardlog.ErrUnknownOutcome if it may be stored. Negative means without
	// end. Defaults to 30 s.
	TTL time.Duration
	// MaxAttempts is how often a record is sent before it fails with the last
	// attempt's error. Defaults to 0: as often as TTL allows.
	MaxAttempts int
	// Retry says how long to wait between attempts.
	Retry Retry
	// RequestTimeout ends the context of a request after that time. The
	// outcome of a request that was cut off is not known; its records are
	// sent again, and may be stored twice. Defaults to 0: a request may take
	// as long as one of its records may.
	RequestTimeout time.Duration

	// Logger is told of failed requests, of callbacks that panic and of a
	// sink that does not keep the order. Defaults to no logging.
	Logger *slog.Logger
}

// WhenFull says what a call does when the buffer has no room for its record.
type WhenFull uint8

// What to do when the buffer is full.
const (
	Block  WhenFull = iota // wait for room, or for the end of the call's context
	Reject                 // return ErrBufferFull at once
)

// Order says how far the order of the records of one partition key is kept.
// The order is that in which the calls that put them followed each other.
type Order uint8

// The orders.
const (
	// OrderPerKey stores the records of a key in order, also across retries: a
	// key whose record waits for a retry waits with it, other keys go on. A
	// request may hold several records of a key; the order of these is the
	// sink's to keep, which includes that it does not store one after it
	// refused an earlier one of the key for a time. When a sink is seen doing
	// that, the producer counts it in Stats.Reordered, logs it, and goes on
	// as with OrderStrict.
	OrderPerKey Order = iota
	// OrderStrict never puts two records of a key into one request. That keeps
	// the order over any sink, such as Kinesis itself, and limits a key to one
	// record for each round trip.
	OrderStrict
)

// Retry is an exponential back-off with full jitter: the n-th pause of a record
// is a random time of up to Initial*2^(n-1), and of no more than Max. A sink
// that says how long to wait is believed when that is longer.
type Retry struct {
	// Initial bounds the first pause. Defaults to 50 ms.
	Initial time.Duration
	// Max bounds every pause. Defaults to 3 s, or to Initial when that is
	// longer.
	Max time.Duration
}

const (
	maxBatchRecords = 10_000
	maxBatchBytes   = 64 << 20
	maxInFlight     = 1024

	// patience is how long a record waits for the requests in flight before a
	// further one is started for it.
	patience = 5 * time.Millisecond
)

// resolve returns a copy of opts with its defaults filled in, or all faults.
func resolve(sink shardlog.Sink, opts *Options) (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	var errs []error
	invalid := func(field string, value any, limit string) {
		errs = append(errs, &shardlog.InvalidError{Field: field, Value: value, Limit: limit})
	}
	if sink == nil {
		invalid("Sink", nil, "set")
	}
	number := func(field string, v *int, def, most int) {
		if *v < 0 || *v > most {
			invalid(field, *v, fmt.Sprintf("1 to %d, or 0 for the default", most))
		}
		if *v <= 0 {
			*v = def
		}
	}
	number("MaxBatchRecords", &o.MaxBatchRecords, 500, maxBatchRecords)
	number("MaxBatchBytes", &o.MaxBatchBytes, 10<<20, maxBatchBytes)
	number("MaxInFlight", &o.MaxInFlight, 4, maxInFlight)
	number("BufferRecords", &o.BufferRecords, 100_000, 1<<31-1)
	number("MaxAttempts", &o.MaxAttempts, 0, 1<<31-1)
	if o.BufferBytes < 0 {
		invalid("BufferBytes", o.BufferBytes, "positive, or 0 for the default")
	}
	if o.BufferBytes <= 0 {
		o.BufferBytes = 64 << 20
	}
	most := int(min(shardlog.MaxRecordSize, int64(o.MaxBatchBytes), o.BufferBytes))
	if o.MaxRecordSize < 0 || o.MaxRecordSize > most {
		invalid("MaxRecordSize", o.MaxRecordSize, fmt.Sprintf("1 to %d (no more than a request and the buffer hold), or 0 for the default", most))
	}
	if o.MaxRecordSize == 0 {
		o.MaxRecordSize = most
	}
	duration := func(field string, v *time.Duration, def time.Duration) {
		if *v < 0 {
			invalid(field, *v, "positive, or 0 for the default")
		}
		if *v == 0 {
			*v = def
		}
	}
	duration("Linger", &o.Linger, 0)
	duration("RequestTimeout", &o.RequestTimeout, 0)
	duration("Retry.Initial", &o.Retry.Initial, 50*time.Millisecond)
	duration("Retry.Max", &o.Retry.Max, max(3*time.Second, o.Retry.Initial))
	if o.Retry.Max > 0 && o.Retry.Max < o.Retry.Initial {
		invalid("Retry.Max", o.Retry.Max, "Retry.Initial or more")
	}
	if o.TTL == 0 {
		o.TTL = 30 * time.Second
	}
	if o.WhenFull > Reject {
		invalid("WhenFull", o.WhenFull, "Block or Reject")
	}
	if o.Order > OrderStrict {
		invalid("Order", o.Order, "OrderPerKey or OrderStrict")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(errs...)
}
