package producer

<<<<<<< Updated upstream
import (
	"context"
	"time"
)

// Hooks are functions that a producer calls, for tracing and metrics. Each may
// be nil. They are called without a lock, from several goroutines at a time,
// and hold up what they are called for, so they must not wait for the producer.
// A panic of Request, or the end of its goroutine, as by t.FailNow, counts as one
// of the sink; of the others, a panic is logged, and nothing comes of an end. For
// figures, Producer.Stats costs less.
type Hooks struct {
	// Request is called before each call of the sink. The context that it
	// returns, which must come from ctx, is the call's, or ctx if it is nil; the
	// function that it returns, unless nil, is called with the outcome.
	Request func(ctx context.Context, r RequestInfo) (context.Context, func(RequestOutcome))
	// Shards is called after the sink was asked for its shards, with how many
	// open ones are known then.
	Shards func(open int, err error)
}
=======
import "time"
>>>>>>> Stashed changes

// RequestInfo describes a request.
type RequestInfo struct {
	// Records is how many records the sink is given; UserRecords, how many
	// were put for them. They differ when records are aggregated.
	Records, UserRecords int
	// Bytes is the size of the records.
	Bytes int
<<<<<<< Updated upstream
	// Resent is set when the request was sent before and had no answer.
	Resent bool
}

// RequestOutcome is what a call of the sink led to.
=======
	// Resent is set when the request was sent before, with an unknown outcome.
	Resent bool
}

// RequestOutcome is the outcome of a call of the sink.
>>>>>>> Stashed changes
type RequestOutcome struct {
	// Duration is how long the call took.
	Duration time.Duration
	// Failed is how many of the records are not stored, or not known to be.
	Failed int
	// Err is the error of the call, or of the first record that failed.
	Err error
}
