package consumer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer/internal/lease"
	"github.com/shardlog/shardlog/internal/backoff"
)

// defaultGroup is the name of a group that is given none.
const defaultGroup = "default"

// Options say how a Consumer works, in four groups: the group of workers that
// it is one of, reading, failure, and life cycle. The zero value of a field
// means its default.
type Options struct {
	// The group: who shares the work, and where its progress is kept.

	// Group names the consumer group: its members share progress, and groups
	// do not affect each other. Defaults to "default".
	Group string
	// Stream names the stream in the store. Defaults to the source's Name if it
	// is a shardlog.Named; it has to be set when it is not.
	Stream string
	// Store keeps the progress. Defaults to the source's own, if it is a
	// checkpoint.Provider; it has to be set when it is not, because
	// progress that ends with the process has to be asked for, with
	// checkpoint.NewMemory.
	Store checkpoint.Store
	// WorkerID names this consumer in the store, in at most 200 bytes; every
	// one that runs needs a name of its own. A second one with the same name
	// ends the first, and continues immediately with its shards: a worker that is
	// started again need not wait for its earlier life to expire if it has a
	// name that stays. Defaults to host name, process ID and a random part.
	WorkerID string
	// Start is where a group begins that has no progress in the stream yet.
	// With Latest, the place is looked up once for each shard and stored, so
	// nothing that is written afterwards is missed. Shards that come from a
	// resharding later are read from their beginning, whatever Start says;
	// with AtTime, only records that arrived before that time are left out.
	// KindAt and KindAfter are refused, because they name a place in one
	// shard only. Defaults to TrimHorizon.
	Start shardlog.Position
	// LeaseTTL is how long this worker is taken for alive when it gives no
	// heartbeat, by the clock of the one who watches it: a worker that was killed
	// is replaced after this time and up to a second. A worker that cannot
	// reach the store for nine tenths of it stops by itself. Workers of a group
	// may have different times. Defaults to 10 s.
	LeaseTTL time.Duration
	// HandOff is how long another worker waits for a batch to be finished when
	// it is its turn to have the shard; then it takes the shard, and the batch
	// is delivered again. Defaults to 30 s.
	HandOff time.Duration
	// MaxLeases bounds the shards that this consumer has at a time. Defaults
	// to 0: no bound.
	MaxLeases int
	// DiscoverEvery is how often to look at all shards and their rows. What
	// workers do is noticed sooner, and so are the children of a shard that is
	// being read. Defaults to 10 s.
	DiscoverEvery time.Duration

	// Reading: what the handler is given, and how much at a time.

	// MaxBatchRecords is the largest number of records in a Batch, at most 10,000.
	// Defaults to 1,000.
	MaxBatchRecords int
	// MaxBatchBytes bounds the sizes of a batch's records together, in bytes, at
	// most 10 MiB; a larger record comes alone. Defaults to 1 MiB.
	MaxBatchBytes int
	// BatchWindow is how long to wait for more records when a batch is not
	// full. It cannot be combined with PerKey or Lanes. Defaults to 0: what is
	// there is delivered immediately.
	BatchWindow time.Duration
	// EmptyBatches asks for a call of the handler without records each time
	// that a read of PollWait found none. It cannot be combined with PerKey or
	// Lanes. Defaults to no such calls.
	EmptyBatches bool
	// Filter selects the records that are wanted; the others are done without a
	// call of the handler. It must not keep or change the record, and is
	// called by several goroutines at a time, one for each shard. Defaults to
	// all.
	Filter func(rec *shardlog.Record) bool
	// PerKey is how many calls of the handler may be under way for one shard,
	// each with records of one partition key. Order holds for each key, and
	// the checkpoint stays below the first record that is not done. Defaults
	// to 1: whole batches, one after another.
	PerKey int
	// Lanes is how many batches of a shard may be under way: each record goes to
	// one of this many lanes by the hash of its partition key, and each lane has
	// one call of the handler at a time, with up to a whole batch of records of
	// any of its keys. A batch that fails is tried again, divided or given up in
	// its lane alone. The other lanes continue until four batches' worth of
	// records wait above the first one that is not done; order holds for each
	// key, and the checkpoint stays below that record. It cannot be combined
	// with PerKey, ExplicitCheckpoints, BatchWindow or EmptyBatches. At most
	// 1,000. Defaults to 1: whole batches, one after another.
	Lanes int
	// PollWait is how long one read waits for records at the end of a shard.
	// They are delivered as soon as they are there; the time only bounds how
	// long a read may be under way. Defaults to 20 s.
	PollWait time.Duration
	// PrefetchBytes bounds the records, in bytes, that were read ahead and
	// wait for the handler, of all shards together. Each shard may always have
	// one batch ready. More is slower where it leaves the processor's caches.
	// Defaults to 4 MiB.
	PrefetchBytes int64
	// FanOut reads outside the limits that all readers of the stream share, as
	// an enhanced fan-out consumer of Kinesis does: other consumers do not slow
	// this one down, nor it them. The source has to be a
	// shardlog.DedicatedReader, as package stream's is; New fails with
	// shardlog.ErrUnsupported otherwise. Defaults to the shared limits.
	FanOut bool
	// FanOutRate bounds what FanOut reads of each shard, in bytes a second.
	// Defaults to 0: no bound; Kinesis has 2 MiB.
	FanOutRate int64
	// KeepAggregates delivers aggregated records, which producers make of
	// several, as they are stored. Where a worker without this option has done a
	// part of one, the whole record comes again. Defaults to de-aggregating
	// them.
	KeepAggregates bool
	// WholeAggregates drops an aggregated record as a whole when one of its
	// records is outside the shard's range of hash keys, as the Kinesis Client
	// Library does; except where a worker without this option has delivered a part
	// of it, which is completed. It cannot be combined with KeepAggregates.
	// Defaults to dropping only that record.
	WholeAggregates bool

	// Failure: what follows an error.

	// Retry says how long to wait before a failed handler, read or write is
	// tried again.
	Retry Retry
	// Bisect divides a batch that failed as a whole into halves, which are
	// tried one after the other, until the record is found that fails. A
	// division is no attempt and is not waited for. Defaults to trying the
	// same batch again.
	Bisect bool
	// MaxAttempts bounds how often a record is tried; then it goes to the dead
	// letters. A batch that fails as a whole goes there as a whole, unless
	// Bisect is set. Defaults to 0: no bound.
	MaxAttempts int
	// MaxAge is the age, since its arrival, from which on a record that failed
	// is not tried again but goes to the dead letters. Records that did not
	// fail are delivered at any age. Defaults to 0: no bound.
	MaxAge time.Duration
	// DeadLetter takes records that are not tried again; see DeadLettersTo for
	// one that puts them into a stream. Its ctx is that of the handler. While
	// it fails, it is tried again and the shard waits, unless the error says
	// that trying again cannot help: see OnRefused. Defaults to none, and then
	// no record is given up.
	DeadLetter func(ctx context.Context, d DeadLetter) error
	// OnRefused decides about a record that DeadLetter will never take: its
	// error is Permanent, or matches shardlog.ErrInvalid, ErrUnsupported,
	// ErrNotFound, ErrClosed, or another one of package shardlog that does not
	// heal. Nil means to continue without the record, which is lost then and
	// counted in ShardStats.Dropped; an error stops the shard with that error,
	// before the record, and the consumer too unless ParkFailed is set. It may
	// block. It needs a DeadLetter. Defaults to stopping with err.
	OnRefused func(d DeadLetter, err error) error
	// Drop gives up records without dead letters: they are counted, and told
	// to OnEvent and Logger, but lost. It has to be set when attempts are
	// limited and there is no DeadLetter. Defaults to giving up nothing.
	Drop bool
	// OnTrimmed decides what happens when retention has removed records of a
	// shard that the group had not done: nil means to continue with the oldest
	// record that is left, an error stops the shard with that error, and the
	// consumer too unless ParkFailed is set. It may block. Defaults to
	// stopping with the *shardlog.TrimmedError.
	OnTrimmed func(shardID string, lost *shardlog.TrimmedError) error
	// ParkFailed keeps Run going when one shard cannot continue, because of
	// retention or damage: the shard is shown by Blocked, and kept, so that no
	// other worker fails with it. Defaults to the end of Run with the error.
	ParkFailed bool

	// Life cycle: checkpoints, the end, and who is notified.

	// CheckpointEvery is the shortest time between two checkpoints of a shard.
	// A longer time saves writes and makes a worker that follows a crash
	// repeat more. What is done is written at the latest after that time, and
	// at a shutdown. It cannot be combined with ExplicitCheckpoints. Defaults
	// to 0: after each batch.
	CheckpointEvery time.Duration
	// ExplicitCheckpoints leaves all checkpoints to the handler, which calls
	// Batch.Checkpoint, during the call or later. What it has not covered
	// comes again to the next worker. A handler that wants time to cover it
	// when the shard is given back asks for Batch.Leaving. A closed shard ends
	// only when its last record is covered. It cannot be combined with PerKey or
	// Lanes. Defaults to a checkpoint after each batch.
	ExplicitCheckpoints bool
	// ShutdownTimeout is how long handlers may continue after the context of Run
	// has ended, before their own is cancelled. Defaults to 30 s.
	ShutdownTimeout time.Duration
	// OnEvent receives what happens, for metrics and tests. It is called by
	// several goroutines at a time, and delays the shard that the event is
	// about, so it should return soon. Defaults to nothing.
	OnEvent func(Event)
	// Logger gets the same events. Defaults to no logging.
	Logger *slog.Logger
}

// Retry is an exponential back-off with full jitter: the n-th pause is a random
// time of up to Initial*2^(n-1), and of no more than Max. A source that says
// how long to wait is believed when that is longer.
type Retry struct {
	// Initial bounds the first pause. Defaults to 100 ms.
	Initial time.Duration
	// Max bounds every pause. Defaults to 30 s, or to Initial when that is
	// longer.
	Max time.Duration
}

func (o *Options) backoff() backoff.Policy { return backoff.Policy(o.Retry) }

const (
	mostBatchRecords = shardlog.MaxPageRecords
	mostBatchBytes   = shardlog.MaxPageBytes
	maxLanes         = 1000
	maxPerKey        = 10_000
	// minLeaseTTL leaves room for several heartbeats, and for a pause of
	// the program between two of them.
	minLeaseTTL = 100 * time.Millisecond
)

// resolve returns a copy of opts with its defaults filled in, or all faults.
func resolve(src shardlog.Source, opts *Options) (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	var errs []error
	invalid := func(field string, value any, limit string) {
		errs = append(errs, &shardlog.InvalidError{Field: field, Value: value, Limit: limit})
	}
	if src == nil {
		invalid("Source", nil, "set")
	}
	o.fillNames(src)
	if isNil(o.Store) {
		invalid("Store", nil, "set, or offered by the source's method Checkpoints")
	}
	if err := (checkpoint.Key{Group: o.Group, Stream: o.Stream, Shard: "any"}).Validate(); err != nil {
		errs = append(errs, err)
	} else if most := checkpoint.MaxNameLength - len(lease.WorkersSuffix); len(o.Stream) > most {
		invalid("Stream", o.Stream, fmt.Sprintf("at most %d bytes", most))
	}
	if n := len(o.WorkerID); n > lease.MaxWorkerID {
		invalid("WorkerID", o.WorkerID, fmt.Sprintf("at most %d bytes", lease.MaxWorkerID))
	} else if err := (checkpoint.Lease{Key: checkpoint.Key{Group: "any", Stream: "any", Shard: "any"}, Owner: o.WorkerID}).Validate(); err != nil {
		invalid("WorkerID", o.WorkerID, "valid UTF-8")
	}
	switch k := o.Start.Kind(); k {
	case shardlog.KindAt, shardlog.KindAfter:
		invalid("Start", o.Start, "TrimHorizon, Latest or AtTime")
	case shardlog.KindAtTime:
		if y := o.Start.Time().UTC().Year(); y < 0 || y > 9999 {
			invalid("Start", o.Start, "in the years 0 to 9999")
		}
	}
	intRange := func(field string, v *int, def, most int) {
		if *v < 0 || *v > most {
			invalid(field, *v, fmt.Sprintf("1 to %d, or 0 for the default", most))
		}
		if *v == 0 {
			*v = def
		}
	}
	intRange("MaxBatchRecords", &o.MaxBatchRecords, 1000, mostBatchRecords)
	intRange("MaxBatchBytes", &o.MaxBatchBytes, 1<<20, mostBatchBytes)
	duration := func(field string, v *time.Duration, def time.Duration) {
		if *v < 0 {
			invalid(field, *v, "positive, or 0 for the default")
		}
		if *v == 0 {
			*v = def
		}
	}
	duration("PollWait", &o.PollWait, 20*time.Second)
	duration("CheckpointEvery", &o.CheckpointEvery, 0)
	duration("DiscoverEvery", &o.DiscoverEvery, 10*time.Second)
	duration("Retry.Initial", &o.Retry.Initial, 100*time.Millisecond)
	duration("Retry.Max", &o.Retry.Max, max(30*time.Second, o.Retry.Initial))
	duration("ShutdownTimeout", &o.ShutdownTimeout, 30*time.Second)
	duration("BatchWindow", &o.BatchWindow, 0)
	duration("LeaseTTL", &o.LeaseTTL, 10*time.Second)
	duration("HandOff", &o.HandOff, 30*time.Second)
	duration("MaxAge", &o.MaxAge, 0)
	intRange("PerKey", &o.PerKey, 1, maxPerKey)
	intRange("Lanes", &o.Lanes, 1, maxLanes)
	o.checkLimits(invalid)
	if o.Retry.Max > 0 && o.Retry.Max < o.Retry.Initial {
		invalid("Retry.Max", o.Retry.Max, "Retry.Initial or more")
	}
	if err := o.checkCapabilities(src); err != nil {
		errs = append(errs, err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(errs...)
}

// checkLimits checks the options that have no plain range.
func (o *Options) checkLimits(invalid func(field string, value any, limit string)) {
	if o.LeaseTTL > 0 && o.LeaseTTL < minLeaseTTL {
		invalid("LeaseTTL", o.LeaseTTL, fmt.Sprintf("%v or more", minLeaseTTL))
	}
	if o.MaxLeases < 0 {
		invalid("MaxLeases", o.MaxLeases, "1 or more, or 0 for no bound")
	}
	if o.MaxAttempts < 0 {
		invalid("MaxAttempts", o.MaxAttempts, "1 or more, or 0 for no bound")
	}
	if o.FanOutRate < 0 || o.FanOutRate > 0 && !o.FanOut {
		invalid("FanOutRate", o.FanOutRate, "0 or more, and 0 without FanOut")
	}
	if o.PrefetchBytes < 0 {
		invalid("PrefetchBytes", o.PrefetchBytes, "positive, or 0 for the default")
	}
	if o.PrefetchBytes == 0 {
		o.PrefetchBytes = 4 << 20
	}
	if (o.MaxAttempts > 0 || o.MaxAge > 0) && o.DeadLetter == nil && !o.Drop {
		invalid("DeadLetter", nil, "set, or Drop, where MaxAttempts or MaxAge limit the attempts")
	}
	if o.DeadLetter != nil && o.Drop {
		invalid("Drop", o.Drop, "unset when there is a DeadLetter")
	}
	if (o.PerKey > 1 || o.Lanes > 1) && o.ExplicitCheckpoints {
		invalid("ExplicitCheckpoints", o.ExplicitCheckpoints, "unset with PerKey and Lanes")
	}
	if o.PerKey > 1 && o.Lanes > 1 {
		invalid("Lanes", o.Lanes, "unset with PerKey")
	}
	o.checkIgnored(invalid)
}

// checkIgnored refuses what would have no effect together with another option.
func (o *Options) checkIgnored(invalid func(field string, value any, limit string)) {
	if o.PerKey > 1 || o.Lanes > 1 {
		if o.BatchWindow > 0 {
			invalid("BatchWindow", o.BatchWindow, "unset with PerKey and Lanes")
		}
		if o.EmptyBatches {
			invalid("EmptyBatches", o.EmptyBatches, "unset with PerKey and Lanes")
		}
	}
	if o.CheckpointEvery > 0 && o.ExplicitCheckpoints {
		invalid("CheckpointEvery", o.CheckpointEvery, "unset with ExplicitCheckpoints")
	}
	if o.WholeAggregates && o.KeepAggregates {
		invalid("WholeAggregates", o.WholeAggregates, "unset with KeepAggregates")
	}
	if o.OnRefused != nil && o.DeadLetter == nil {
		invalid("OnRefused", "set", "unset without DeadLetter")
	}
}

// fillNames sets what has no constant default.
func (o *Options) fillNames(src shardlog.Source) {
	if o.Group == "" {
		o.Group = defaultGroup
	}
	if s, ok := src.(shardlog.Named); ok && o.Stream == "" {
		o.Stream = s.Name()
	}
	if s, ok := src.(checkpoint.Provider); ok && o.Store == nil {
		o.Store = s.Checkpoints()
	}
	if o.WorkerID == "" {
		host, _ := os.Hostname() // the name is for people; the random part makes it unique
		o.WorkerID = fmt.Sprintf("%.100s-%d-%s", host, os.Getpid(), rand.Text())
	}
}

// isNil also finds a nil pointer in an interface, such as an unset *Memory.
func isNil(s checkpoint.Store) bool {
	if s == nil {
		return true
	}
	v := reflect.ValueOf(s)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
