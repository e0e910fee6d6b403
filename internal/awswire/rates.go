package awswire

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
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
	buckets map[bucketKey]*rate.Limiter
}

type bucketKey struct {
	scope            Scope
	service, op, key string
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
	if l.allow(key, r.PerSecond, c.Now()) {
		return nil
	}
	return r.Exceeded(c, key.key)
}

func (l *Rates) allow(key bucketKey, perSecond float64, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		if l.buckets == nil || len(l.buckets) >= maxBuckets {
			l.buckets = map[bucketKey]*rate.Limiter{}
		}
		b = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
		l.buckets[key] = b
	}
	return b.AllowN(now, 1)
}
