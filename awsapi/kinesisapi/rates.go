package kinesisapi

import (
	"sync"

	"golang.org/x/time/rate"
)

// rates are the limits of AWS on operations, with Options.ControlLimits.
type rates struct {
	mu      sync.Mutex
	buckets map[rateKey]*rate.Limiter
}

type rateKey struct {
	scope
	op, stream, shard string
}

// maxBuckets bounds what is remembered; beyond it everything is forgotten,
// which lets a few calls too many pass.
const maxBuckets = 100_000

// iteratorsPerSecond is how many GetShardIterator a shard allows (API
// reference, GetShardIterator).
const iteratorsPerSecond = 5

// admit takes one call from what is left, or refuses it.
func (l *rates) admit(c *call) error {
	if !c.h.opts.ControlLimits {
		return nil
	}
	key, perSecond := rateKey{scope: c.scope, op: c.op.name}, c.op.perSecond
	if c.op.perStream {
		key.stream = c.requestStream()
	}
	iterator := c.op.name == "GetShardIterator"
	if iterator {
		key.stream, key.shard, perSecond = c.requestStream(), c.in.str("ShardId"), iteratorsPerSecond
		if index, ok := shardIndex(key.shard); ok {
			key.shard = shardID(index) // one shard, however it is written
		}
	}
	if perSecond == 0 || l.allow(c, key, perSecond) {
		return nil
	}
	if iterator {
		return fault(codeThroughput, "Rate exceeded for shard %s in stream %s under account %s.", key.shard, key.stream, c.scope.account)
	}
	return c.rateExceeded(key.stream)
}

func (c *call) rateExceeded(stream string) error {
	if stream != "" {
		return fault(codeLimit, "Rate exceeded for stream %s under account %s.", stream, c.scope.account)
	}
	return fault(codeLimit, "Rate exceeded for account %s.", c.scope.account)
}

func (l *rates) allow(c *call, key rateKey, perSecond float64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		if l.buckets == nil || len(l.buckets) >= maxBuckets {
			l.buckets = map[rateKey]*rate.Limiter{}
		}
		b = rate.NewLimiter(rate.Limit(perSecond), int(perSecond))
		l.buckets[key] = b
	}
	return b.AllowN(c.h.now(), 1)
}
