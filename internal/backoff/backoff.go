// Package backoff has the rule for the pauses between attempts: exponential
// back-off with full jitter. Producer, consumer and the benchmarks share it.
package backoff

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/shardlog/shardlog"
)

// Policy is an exponential back-off: the pause after the n-th attempt is a
// random time of up to Initial*2^(n-1), and never more than Max. The jitter is
// full, from 0 to the bound, because callers that failed together must not
// return together.
//
// Both fields are positive. The zero Policy has pauses of one nanosecond.
type Policy struct{ Initial, Max time.Duration }

// Bound returns the longest pause after a number of attempts, counted from 1.
func (p Policy) Bound(attempts int) time.Duration {
	b := p.Initial
	for i := 1; i < attempts && b < p.Max; i++ {
		b *= 2
	}
	if b > p.Max || b <= 0 { // b <= 0: the doubling overflowed
		b = p.Max
	}
	return b
}

// Pause returns a random pause after a number of attempts, counted from 1. It
// is positive, and not shorter than what err asks for (see RetryAfter).
func (p Policy) Pause(attempts int, err error) time.Duration {
	return p.PauseAt(rand.Float64(), attempts, err)
}

// PauseAt is Pause with a random number of the caller's, from 0 to below 1. A
// caller that draws one number for several records lets those with as many
// attempts return together, which saves requests.
func (p Policy) PauseAt(random float64, attempts int, err error) time.Duration {
	bound := p.Bound(attempts)
	pause := min(time.Duration(random*float64(bound)), bound-1) + 1 // min: a float64 may round up to the bound
	return max(pause, RetryAfter(err), 1)
}

// RetryAfter returns how long the first *shardlog.Error in err's tree asks its
// caller to wait; 0 when it does not say.
func RetryAfter(err error) time.Duration {
	var e *shardlog.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
