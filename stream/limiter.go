package stream

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter holds the token buckets of one shard; each may be nil. Nobody waits
// in it: a call over a limit gets the time to wait.
type limiter struct {
	mu                                     sync.Mutex // checking and spending are one step
	writes, reads                          bool
	inRecords, inBytes, outBytes, outCalls *rate.Limiter
}

// newLimiter returns nil where nothing is limited.
func newLimiter(l Limits) *limiter {
	bucket := func(perSecond float64) *rate.Limiter {
		if perSecond <= 0 {
			return nil
		}
		return rate.NewLimiter(rate.Limit(perSecond), max(int(perSecond), 1))
	}
	lim := &limiter{
		inRecords: bucket(l.WriteRecords), inBytes: bucket(l.WriteBytes),
		outBytes: bucket(l.ReadBytes), outCalls: bucket(l.ReadCalls),
	}
	lim.writes = lim.inRecords != nil || lim.inBytes != nil
	lim.reads = lim.outBytes != nil || lim.outCalls != nil
	if !lim.writes && !lim.reads {
		return nil
	}
	return lim
}

// write takes what a record of n bytes costs; if that is not there it takes
// nothing and returns how long to wait.
func (l *limiter) write(now time.Time, n int) time.Duration { return l.writeAll(now, 1, n) }

// writeAll is write for several records of n bytes together.
func (l *limiter) writeAll(now time.Time, records, n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := max(shortOf(l.inRecords, now, records), shortOf(l.inBytes, now, n))
	if wait == 0 {
		spend(l.inRecords, now, records)
		spend(l.inBytes, now, n)
	}
	return wait
}

// wait returns how long it takes until several records of n bytes together are
// admitted; it takes nothing.
func (l *limiter) wait(now time.Time, records, n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(shortOf(l.inRecords, now, records), shortOf(l.inBytes, now, n))
}

// spendWrites takes what several records of n bytes together cost, also more
// than is there.
func (l *limiter) spendWrites(now time.Time, records, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spend(l.inRecords, now, records)
	spend(l.inBytes, now, n)
}

// read takes one call; it returns how long to wait if there is none left or
// earlier pages went over the byte rate.
func (l *limiter) read(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := max(shortOf(l.outCalls, now, 1), shortOf(l.outBytes, now, 0))
	if wait == 0 {
		spend(l.outCalls, now, 1)
	}
	return wait
}

// readBytes takes what a page cost, also more than is there.
func (l *limiter) readBytes(now time.Time, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spend(l.outBytes, now, n)
}

// shortOf returns how long it takes until n tokens are there. More than the
// bucket holds counts as a full bucket: a record larger than a second's worth
// passes when nothing else did for a while.
func shortOf(b *rate.Limiter, now time.Time, n int) time.Duration {
	if b == nil {
		return 0
	}
	missing := float64(min(n, b.Burst())) - b.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing/float64(b.Limit())*float64(time.Second)) + time.Nanosecond
}

// spend takes n tokens, below zero if need be, in parts that the bucket allows.
func spend(b *rate.Limiter, now time.Time, n int) {
	if b == nil {
		return
	}
	for n > 0 {
		part := min(n, b.Burst())
		b.ReserveN(now, part)
		n -= part
	}
}
