package producer

import (
	"context"
	"log/slog"
	"time"
)

// Options say how a Producer works. The zero value of a field means its
// default.
type Options struct {
	// MaxBatchRecords is the largest number of records in a request, at most
	// 10,000, and at most what the sink takes where that is known
	// (Capabilities.MaxRequestRecords). More than the default can pay for a sink
	// in the same process. Defaults to 500, shardlog.MaxRequestRecords, which is
	// what Kinesis takes, or to what the sink takes if that is less.
	MaxBatchRecords int
	// MaxBatchBytes bounds the sizes of a request's records together, in
	// bytes, at most 64 MiB, and at most what the sink takes where that is known
	// (Capabilities.MaxRequestBytes). Defaults to 10 MiB,
	// shardlog.MaxRequestBytes, which is what Kinesis takes, or to what the sink
	// takes if that is less.
	MaxBatchBytes int
	// MaxInFlight is how many requests may be at the sink at a time, at most
	// 1,024. Records of one partition key are never in two of them, and a
	// further one is started only for a full request's worth of records or
	// for a record that has waited for 5 ms, and not within 1 ms of the one
	// before, because fewer and larger requests cost less. Defaults to 4.
	MaxInFlight int
	// Linger is how long a record may wait for others before a request is
	// sent, when none is in flight. Put, PutBatch, Flush and Shutdown do not
	// wait for it. Defaults to 0: records go immediately.
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
	// MaxRecordSize is the largest record that is accepted, in bytes of data, key
	// and headers, at most shardlog.MaxRecordSize, MaxBatchBytes, BufferBytes and
	// what the sink takes where that is known (Capabilities.MaxRecord). Defaults to the
	// smallest of these.
	MaxRecordSize int
	// BorrowData saves the copy of each record's Data and Headers. Then they
	// must not change until the record has its result, and never again if that
	// matches shardlog.ErrUnknownOutcome, because the sink may still be reading
	// them. Defaults to copying before the call returns.
	BorrowData bool

	// Order says how the order of a partition key is kept. Defaults to
	// OrderPerKey.
	Order Order
	// TTL is how long a record may take from its acceptance into the buffer
	// until it is stored; then it fails with ErrTTLExpired, or with
	// shardlog.ErrUnknownOutcome if it may be stored. Negative means no bound.
	// Defaults to 30 s.
	TTL time.Duration
	// MaxAttempts bounds how often a record is sent; then it fails with the last
	// attempt's error. Defaults to 0: no bound other than TTL.
	MaxAttempts int
	// Retry says how long to wait between attempts.
	Retry Retry
	// RequestTimeout ends the context of a request after that time. The
	// outcome of such a request is not known; its records are sent again, and
	// may be stored twice, unless there is an ID. Defaults to 0: a request may
	// take as long as one of its records may.
	RequestTimeout time.Duration

	// Aggregation packs several records into one stored record. Defaults to
	// none.
	Aggregation Aggregation
	// ShardRate bounds what is sent to each shard in a second. It needs a sink
	// with Capabilities.KeyRanges, because the producer predicts each record's
	// shard. Defaults to no bound.
	ShardRate ShardRate
	// Keyless accepts records without a partition key, and spreads them over
	// the shards: 64 KiB go to one, then as many to another one, so that they
	// gather to large requests and aggregates. Such a record is stored with a
	// made-up key and an explicit hash key. It keeps no order. It needs a sink
	// with Capabilities.KeyRanges. Defaults to refusing such records.
	Keyless bool

	// ID is an identity, 1 to 256 bytes of UTF-8. With one, a record is stored
	// once, however often it has to be sent, because the sink recognizes it.
	// Another producer with the identity, also in another process, takes over
	// from this one, whose records then fail with shardlog.ErrFenced. The
	// identity is opened with the first request; that it is may have an effect
	// even if all records of that request fail. It needs a sink with
	// Capabilities.Idempotent. Defaults to none: a request without an answer may
	// be stored twice.
	ID string

	// OnRequest is called before each call of the sink, for tracing. The context
	// that it returns, which must come from ctx, is the call's, or ctx if it is
	// nil; the function that it returns, unless nil, is called with the outcome.
	// For figures, Producer.Stats costs less.
	//
	// Both functions are called without a lock, by several goroutines at a time,
	// and delay the request, so they must not wait for the producer. A panic of
	// OnRequest, or the end of its goroutine, as by t.FailNow, counts as one of
	// the sink; a panic of the other is logged. Defaults to none.
	OnRequest func(ctx context.Context, r RequestInfo) (context.Context, func(RequestOutcome))
	// OnShards is called after the sink was asked for its shards, with how many
	// open ones are known then. It delays the requests that wait for them. A
	// panic is logged. Defaults to none.
	OnShards func(open int, err error)
	// Logger logs failed requests, callbacks that panic, shards that cannot be
	// listed, the loss of the identity, and a sink that does not keep the order.
	// If its handler panics, Shutdown returns that. Defaults to no logging.
	Logger *slog.Logger
}

// Aggregation is the packing of several records into one stored record, in the
// format of the Kinesis Producer Library (KPL). The records of an aggregate are
// for one shard by the sink's own list of shards, so it needs a sink with
// Capabilities.KeyRanges; while the shards are not known, records go alone. So do records that do not
// fit, those with a DedupID, and one that is the only one. Everything is sent
// with an explicit hash key, as by KPL, and that decides on which shard it is.
//
// It pays where a stored record has a price: on Kinesis, which counts them, or
// over a network. In the same process it costs a digest and saves nothing.
//
// Readers have to de-aggregate; package consumer does.
type Aggregation struct {
	// Enabled turns it on. Defaults to false. (KPL: AggregationEnabled, true.)
	Enabled bool
	// MaxCount is the largest number of records in an aggregate. Defaults to 0,
	// no bound. (KPL: AggregationMaxCount, 4294967295.)
	MaxCount int
	// MaxSize is the largest aggregate in bytes, 64 to 10,485,760, and no more
	// than MaxBatchBytes and what the sink takes where that is known
	// (Capabilities.MaxRecord). Its partition key does not count, but an aggregate
	// with its key is not larger than what the sink takes either. Defaults to
	// 51,200, or to the smallest of these. (KPL: AggregationMaxSize, 51200.)
	MaxSize int
}

// WhenFull says what a call does when the buffer has no room for its record.
type WhenFull uint8

// What to do when the buffer is full.
const (
	Block  WhenFull = iota // wait for room, or for the end of the call's context
	Reject                 // return ErrBufferFull immediately
)

// Order says how far the order of the records of one partition key is kept.
// The order is that in which the calls that put them followed each other.
type Order uint8

// The orders.
const (
	// OrderPerKey stores the records of a key in order, also across retries: a
	// key whose record waits for a retry waits with it, other keys do not. A
	// request may hold several records of a key if the sink says that it keeps
	// their order (Capabilities.OrderedRequest), which includes that it does not
	// store one after it refused an earlier one of the key for the moment. When
	// a sink is seen doing that, the producer counts it in Stats.Reordered, logs
	// it, and continues as with OrderStrict.
	OrderPerKey Order = iota
	// OrderStrict never puts two records of a key into one request. That keeps
	// the order over any sink, such as Kinesis itself, and limits a key to one
	// record for each round trip.
	OrderStrict
)

// Retry is an exponential back-off with full jitter: the n-th pause of a record
// is a random time of up to Initial*2^(n-1), and never more than Max, unless the
// sink asks for a longer one.
type Retry struct {
	// Initial bounds the first pause. Defaults to 50 ms.
	Initial time.Duration
	// Max bounds every pause. Defaults to 3 s, or to Initial when that is
	// longer.
	Max time.Duration
}
