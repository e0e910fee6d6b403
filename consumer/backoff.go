package consumer

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// delay is the pause after the given number of failures, and no shorter than
// what err asks for.
func (b Retry) delay(failures int, err error) time.Duration {
	bound := b.Initial
	for i := 1; i < failures && bound < b.Max; i++ {
		bound *= 2
	}
	if bound > b.Max || bound <= 0 { // <= 0: the doubling overflowed
		bound = b.Max
	}
	// Full jitter: workers that failed together do not come back together.
	d := rand.N(bound) + 1
	var e *shardlog.Error
	if errors.As(err, &e) && e.RetryAfter > d {
		d = e.RetryAfter
	}
	return d
}

// sleep waits for d and tells whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// permanent tells whether trying again cannot help. Errors that are not known,
// such as those of a network, are taken to heal.
func permanent(err error) bool {
	if errors.Is(err, checkpoint.ErrUnavailable) || shardlog.Retryable(err) {
		return false
	}
	for _, target := range []error{
		ErrLeaseLost, shardlog.ErrInvalid, shardlog.ErrNotFound, shardlog.ErrClosed, shardlog.ErrConflict,
		shardlog.ErrCorrupt, shardlog.ErrVersion, shardlog.ErrStorage, shardlog.ErrExpired, shardlog.ErrUnsupported,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
