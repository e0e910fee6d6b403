package producer

import (
	"time"

	"golang.org/x/time/rate"
)

// ShardRate bounds what the producer sends to a shard, so that records wait
// here, in order, instead of being refused there. 0 is no limit. A burst of one
// second's worth may go without a pause.
//
// If a shard refuses records as too many anyway, because others write to it
// too, the rate is halved. With each second without a refusal it grows by a
// tenth of the limit, until that is reached again.
//
// Kinesis takes 1,000 records and 1 MiB a second on a shard (developer guide,
// quotas). A record is a stored one: an aggregate counts as one record.
type ShardRate struct {
	// Records is how many records may go to a shard in a second, at least 1.
	// Defaults to 0, no limit.
	Records float64
	// Bytes is how many bytes of keys, data and headers may go to a shard in a
	// second, at least 1. A larger record goes when a whole second's worth is
	// free. Defaults to 0, no limit.
	Bytes float64
}

// How a limiter adapts to refusals.
const (
	cutFactor     = 0.5  // what a refusal leaves of the rate
	minScale      = 0.01 // of the limit is always left
	raiseStep     = 0.1  // of the limit is added each raiseInterval
	raiseInterval = time.Second
	minDelay      = 20 * time.Millisecond  // the shortest wait, so that records go together
	cutInterval   = 100 * time.Millisecond // refusals within that count as one
)

// limiter bounds what goes to a shard. It has no goroutine and never waits: it
// computes how long to wait. A nil *limiter has no bounds.
type limiter struct {
	rate           ShardRate
	records, bytes *rate.Limiter // nil without a limit
	scale          float64       // of full
	cut, raised    time.Time     // when scale changed
}

func newLimiter(l ShardRate) *limiter {
	if l == (ShardRate{}) {
		return nil
	}
	bucket := func(v float64) *rate.Limiter {
		if v == 0 {
			return nil
		}
		return rate.NewLimiter(rate.Limit(v), max(int(v), 1))
	}
	return &limiter{rate: l, records: bucket(l.Records), bytes: bucket(l.Bytes), scale: 1}
}

// delay returns how long it takes until a number of records and bytes may go; 0
// if they may go now.
func (l *limiter) delay(now time.Time, records, bytes int) time.Duration {
	if l == nil {
		return 0
	}
	l.raise(now)
	return max(shortfall(l.records, now, records), shortfall(l.bytes, now, bytes))
}

// consume takes the tokens of what goes.
func (l *limiter) consume(now time.Time, records, bytes int) {
	if l != nil {
		consumeTokens(l.records, now, records)
		consumeTokens(l.bytes, now, bytes)
	}
}

// shortfall returns how long it takes until n tokens are free, or a full bucket
// if n is more than that.
func shortfall(b *rate.Limiter, now time.Time, n int) time.Duration {
	if b == nil || n == 0 {
		return 0
	}
	missing := float64(min(n, b.Burst())) - b.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return max(time.Duration(missing/float64(b.Limit())*float64(time.Second)), minDelay)
}

// consumeTokens takes n tokens. The bucket may go below 0, by what an aggregate
// has grown since delay was asked.
func consumeTokens(b *rate.Limiter, now time.Time, n int) {
	if b != nil && n > 0 {
		b.ReserveN(now, min(n, b.Burst()))
	}
}

// onRefused lowers the rate after the shard refused a record as one too many.
func (l *limiter) onRefused(now time.Time) {
	if l == nil || now.Sub(l.cut) < cutInterval {
		return
	}
	l.raise(now)
	l.cut, l.raised = now, now
	l.set(now, max(l.scale*cutFactor, minScale))
}

// raise brings the rate back to the limit step by step.
func (l *limiter) raise(now time.Time) {
	if l.scale == 1 {
		return
	}
	if steps := now.Sub(l.raised) / raiseInterval; steps > 0 {
		l.raised = l.raised.Add(steps * raiseInterval)
		l.set(now, min(l.scale+raiseStep*float64(steps), 1))
	}
}

// set changes the rate to scale times the limit.
func (l *limiter) set(now time.Time, scale float64) {
	l.scale = scale
	if l.records != nil {
		l.records.SetLimitAt(now, rate.Limit(l.rate.Records*scale))
	}
	if l.bytes != nil {
		l.bytes.SetLimitAt(now, rate.Limit(l.rate.Bytes*scale))
	}
}
