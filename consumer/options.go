package consumer

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Options say how a Consumer works. The zero value of a field means its
// default.
type Options struct {
	// Group names the consumer group: its members share progress, and groups
	// do not affect each other. Defaults to "default".
	Group string
	// Stream names the stream in the store. Defaults to what the source's
	// method Name() string returns; it has to be set when there is none.
	Stream string
	// Store keeps the progress. Defaults to what the source's method
	// Checkpoints() checkpoint.Store returns; it has to be set when there is
	// none, because progress that ends with the process has to be asked for,
	// with checkpoint.NewMemory.
	Store checkpoint.Store
	// WorkerID names this consumer in the store; every one that runs needs a
	// name of its own. Defaults to host name, process ID and a random part.
	WorkerID string

	// Start is where a group begins that has no progress in the stream yet.
	// With Latest, the place is looked up once for each shard and stored, so
	// nothing that is written afterwards is missed. Shards that come from a
	// resharding later are read from their beginning, whatever Start says;
	// with AtTime, only records that arrived before that time are left out.
	// KindAt and KindAfter are refused, because they name a place in one
	// shard only. Defaults to TrimHorizon.
	Start shardlog.Position
	// BatchSize is the largest number of records in a Batch, at most 10,000.
	// Defaults to 1,000.
	BatchSize int
	// BatchBytes bounds the sizes of a batch's records together, in bytes, at
	// most 10 MiB; a larger record comes alone. Defaults to 1 MiB.
	BatchBytes int
	// PollWait is how long one read waits for records at the end of a shard.
	// They are delivered as soon as they are there; the time only bounds how
	// long a read may be under way. Defaults to 20 s.
	PollWait time.Duration
	// CheckpointEvery is the shortest time between two checkpoints of a shard.
	// A longer time saves writes and makes a worker that follows a crash
	// repeat more. What is done is written at the latest after that time, and
	// at a shutdown. Defaults to 0: after each batch.
	CheckpointEvery time.Duration
	// DiscoverEvery is how often to look for shards that appeared other than
	// by a resharding of one that is being read, and for a worker that has
	// taken the shards over. Defaults to 10 s.
	DiscoverEvery time.Duration
	// Retry says how long to wait before a failed handler, read or write is
	// tried again.
	Retry Retry
	// ShutdownTimeout is how long handlers may go on after the context of Run
	// has ended, before their own is cancelled. Defaults to 30 s.
	ShutdownTimeout time.Duration

	// OnTrimmed decides what happens when retention has removed records of a
	// shard that the group had not done: nil means to go on with the oldest
	// record that is left, an error stops the consumer with that error. It
	// may block. Defaults to stopping with the *shardlog.TrimmedError.
	OnTrimmed func(shardID string, lost *shardlog.TrimmedError) error
	// OnEvent is told what happens, for metrics and tests. It is called by
	// several goroutines at a time, and holds up the shard that it is told
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

const (
	maxBatchSize  = 10_000
	maxBatchBytes = 10 << 20
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
	}
	if n := len(o.WorkerID); n > checkpoint.MaxNameLength {
		invalid("WorkerID", o.WorkerID, fmt.Sprintf("at most %d bytes", checkpoint.MaxNameLength))
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
	intRange("BatchSize", &o.BatchSize, 1000, maxBatchSize)
	intRange("BatchBytes", &o.BatchBytes, 1<<20, maxBatchBytes)
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
	if o.Retry.Max > 0 && o.Retry.Max < o.Retry.Initial {
		invalid("Retry.Max", o.Retry.Max, "Retry.Initial or more")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(errs...)
}

// fillNames sets what has no constant default.
func (o *Options) fillNames(src shardlog.Source) {
	if o.Group == "" {
		o.Group = "default"
	}
	if s, ok := src.(interface{ Name() string }); ok && o.Stream == "" {
		o.Stream = s.Name()
	}
	if s, ok := src.(interface{ Checkpoints() checkpoint.Store }); ok && o.Store == nil {
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
