package stream

import (
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
)

// hashCache remembers the MD5 of partition keys that were used lately: keys
// repeat, and MD5 is the dearest step of routing a small record. One belongs
// to one call at a time, so it needs no lock, and a pool hands it on.
type hashCache [hashCacheSize]cachedHash

const (
	hashCacheSize = 2048 // a power of two
	hashCacheKey  = 36   // longer keys are not kept; they are rarer
)

type cachedHash struct {
	hash shardlog.HashKey
	n    uint8 // length of the key; 0 for none
	key  [hashCacheKey]byte
}

var hashCaches = sync.Pool{New: func() any { return new(hashCache) }}

// keyHash is shardlog.KeyHash.
func (c *hashCache) keyHash(key string) shardlog.HashKey {
	if len(key) > hashCacheKey {
		return shardlog.KeyHash(key)
	}
	e := &c[xxhash.Sum64String(key)&(hashCacheSize-1)]
	if int(e.n) == len(key) && string(e.key[:e.n]) == key {
		return e.hash
	}
	e.hash = shardlog.KeyHash(key)
	e.n = uint8(copy(e.key[:], key))
	return e.hash
}
