package awswire

import (
	"sync"
)

// Rate is how often AWS lets an account call an operation.
type Rate struct {
	// PerSecond is the rate, and how many calls may come in one burst, which is
	// one where the rate is lower.
	PerSecond float64
	// Key returns what is counted by itself, such as a stream. Nil counts all
	// calls of an account together.
	Key func(*Call) string
	// Exceeded returns the error of a call that is refused; key is from Key.
	Exceeded func(c *Call, key string) error
}

// Rates counts calls. The zero value has counted none. It is safe for
// concurrent use.
type Rates struct {
	mu      sync.Mutex
	buckets map[bucketKey]*bucket
}

type bucketKey struct {
	scope            Scope
	service, op, key string
}

// bucket is what is left of a rate.
type bucket struct {
	left float64
	at   Moment // when it was that much
}

// maxBuckets bounds what is remembered, because clients choose the keys. Beyond
// it everything is forgotten, which lets a few calls too many pass.
const maxBuckets = 100_000

// admit counts a call, or returns the error with which it is refused.
func (l *Rates) admit(c *Call) error {
	r := c.Op.Rate
	if r == nil {
		return nil
	}
	key := bucketKey{scope: c.Scope, service: c.Service.Name, op: c.Op.Name}
	if r.Key != nil {
		key.key = r.Key(c)
	}
	if l.allow(key, r.PerSecond, c.Clock()) {
		return nil
	}
	return r.Exceeded(c, key.key)
}

// Allow counts something that is counted by itself in the scope of the call, under
// a name that is none of an operation, and reports whether it may be done now: so
// often a second. It always may if the service does not apply rates.
func (c *Call) Allow(name, key string, perSecond float64) bool {
	return !c.Service.Rates || c.Env.rates.allow(bucketKey{c.Scope, c.Service.Name, name, key}, perSecond, c.Clock())
}

// allow takes a call from its bucket, which fills by what Clock.Since says: the
// clock may be ahead at one call and right at the next.
func (l *Rates) allow(key bucketKey, perSecond float64, clock *Clock) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := max(1, float64(int(perSecond)))
	b := l.buckets[key]
	if b == nil {
		if l.buckets == nil || len(l.buckets) >= maxBuckets {
			l.buckets = map[bucketKey]*bucket{}
		}
		b = &bucket{left: most, at: clock.Moment()}
		l.buckets[key] = b
	}
	b.left = min(most, b.left+perSecond*clock.Since(b.at).Seconds())
	b.at = clock.Moment()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
