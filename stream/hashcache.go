package stream

import (
	"sync"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// hashCache remembers partition keys that were used lately: that they are
// valid, and their MD5. Keys repeat, and both are dear steps of routing a
// small record. It has sets of two, the one used last first.
type hashCache [hashCacheSets][2]cachedHash

const (
	hashCacheSets = 2048 // a power of two
	hashCacheKey  = 38   // longer keys are not kept; they are rarer
)

type cachedHash struct {
	hi, lo uint64
	n      uint8 // length of the key; 0 for none
	key    [hashCacheKey]byte
}

func (e *cachedHash) is(key string) bool { return int(e.n) == len(key) && string(e.key[:e.n]) == key }

// keyHash is shardlog.KeyHash; ok tells whether the key is valid UTF-8.
func (c *hashCache) keyHash(key string) (h shardlog.HashKey, ok bool) {
	if len(key) > hashCacheKey || len(key) == 0 {
		return shardlog.KeyHash(key), utf8.ValidString(key)
	}
	set := &c[xxhash.Sum64String(key)&(hashCacheSets-1)]
	if e := &set[0]; e.is(key) {
		return shardlog.NewHashKey(e.hi, e.lo), true
	}
	if set[1].is(key) {
		set[0], set[1] = set[1], set[0]
		return shardlog.NewHashKey(set[0].hi, set[0].lo), true
	}
	if !utf8.ValidString(key) {
		return shardlog.KeyHash(key), false
	}
	h = shardlog.KeyHash(key)
	set[1] = set[0]
	e := &set[0]
	e.hi, e.lo = h.Words()
	e.n = uint8(copy(e.key[:], key))
	return h, true
}

// scratch is what a call that puts records needs for its time only. One
// belongs to one call at a time, so it needs no lock, and a pool hands it on.
type scratch struct {
	hashes  hashCache
	targets []*logstore.Shard
	keys    []shardlog.HashKey
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// keysFor returns a slice of n hash keys with any contents.
func (s *scratch) keysFor(n int) []shardlog.HashKey {
	if cap(s.keys) < n {
		s.keys = make([]shardlog.HashKey, n)
	}
	return s.keys[:n]
}

// targetsFor returns a slice of n shards with any contents.
func (s *scratch) targetsFor(n int) []*logstore.Shard {
	if cap(s.targets) < n {
		s.targets = make([]*logstore.Shard, n)
	}
	return s.targets[:n]
}
