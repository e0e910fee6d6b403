package stream

import (
	"sync"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// hashCache remembers partition keys that were used recently: that they are
// valid, and their MD5. Keys repeat, and validation and hashing are most of the
// cost of routing a small record. It has sets of two, the one used last first. An
// entry is a cache line, because a look into a cache of this size costs one for
// each line.
type hashCache [hashCacheSets][2]cachedHash

const (
	hashCacheSets = 2048 // a power of two
	hashCacheKey  = 47   // bytes; longer keys are rarer and not kept
)

type cachedHash struct {
	hi, lo uint64
	n      uint8 // length of the key; 0 for none
	key    [hashCacheKey]byte
}

func (e *cachedHash) is(key string) bool { return int(e.n) == len(key) && string(e.key[:e.n]) == key }

// keyHash is shardlog.KeyHash; ok reports whether the key is valid UTF-8.
func (c *hashCache) keyHash(key string) (h shardlog.HashKey, ok bool) {
	return c.keyHashIn(placeOf(key), key)
}

// place is the index of the set that a key belongs to.
type place uint32

func placeOf(key string) place { return place(xxhash.Sum64String(key) & (hashCacheSets - 1)) }

// keyHashIn is keyHash of a key whose place is known.
func (c *hashCache) keyHashIn(p place, key string) (h shardlog.HashKey, ok bool) {
	if len(key) > hashCacheKey || len(key) == 0 {
		return shardlog.KeyHash(key), utf8.ValidString(key)
	}
	set := &c[p&(hashCacheSets-1)]
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

// ahead are the places of the keys of some records, one after the other.
//
// The memory of the cache is slow, because a request is larger than what the
// processor keeps near. It waits for one place after the other when each is looked
// at before the next is known, and for all of them together when they are fetched
// first.
type ahead struct {
	places [aheadKeys]place
	sum    uint8 // so that fetching them is not left out as useless
}

const aheadKeys = 32 // fewer than half of the lines of a first-level cache

// fetch reads the places, of which there are n. There is nothing else in the loop,
// so that the processor gets to many of them before it has the first.
func (a *ahead) fetch(c *hashCache, n int) {
	sum := uint8(0)
	for _, p := range a.places[:n] {
		sum += c[p&(hashCacheSets-1)][0].n
	}
	a.sum = sum
}

// buffers are the memory that a call which puts records needs while it runs. They
// belong to one call at a time, so they need no lock; bufferPool hands them on.
type buffers struct {
	hashes  hashCache
	ahead   ahead
	targets []*logstore.Shard
	keys    []shardlog.HashKey
}

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// keysFor returns a slice of n hash keys with any contents.
func (s *buffers) keysFor(n int) []shardlog.HashKey {
	if cap(s.keys) < n {
		s.keys = make([]shardlog.HashKey, n)
	}
	return s.keys[:n]
}

// targetsFor returns a slice of n shards with any contents.
func (s *buffers) targetsFor(n int) []*logstore.Shard {
	if cap(s.targets) < n {
		s.targets = make([]*logstore.Shard, n)
	}
	return s.targets[:n]
}
