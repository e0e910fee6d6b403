package logstore

import (
	"container/list"
	"sync"

	"github.com/shardlog/shardlog/internal/block"
)

// cache keeps the stored blocks that were read last, because a reader of small
// pages comes back to the same block many times, and verifying its checksum
// costs more than copying a page.
type cache struct {
	mu    sync.Mutex
	max   int64
	bytes int64
	m     map[cacheKey]*list.Element
	lru   list.List // of cacheItem, the last used in front
}

type cacheKey struct {
	shard *Shard
	first uint64
}

type cacheItem struct {
	key cacheKey
	b   block.Block
}

func newCache(size int64) *cache { return &cache{max: size, m: map[cacheKey]*list.Element{}} }

func (c *cache) get(s *Shard, first uint64) (block.Block, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.m[cacheKey{s, first}]
	if !ok {
		return block.Block{}, false
	}
	c.lru.MoveToFront(e)
	return e.Value.(cacheItem).b, true
}

func (c *cache) put(s *Shard, b block.Block) {
	if int64(b.Size()) > c.max/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := cacheKey{s, b.First}
	if _, ok := c.m[k]; ok {
		return
	}
	c.m[k] = c.lru.PushFront(cacheItem{k, b})
	for c.bytes += int64(b.Size()); c.bytes > c.max; {
		e := c.lru.Back()
		item := c.lru.Remove(e).(cacheItem)
		delete(c.m, item.key)
		c.bytes -= int64(item.b.Size())
	}
}

// drop removes a block.
func (c *cache) drop(s *Shard, first uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.m[cacheKey{s, first}]; ok {
		item := c.lru.Remove(e).(cacheItem)
		c.bytes -= int64(item.b.Size())
		delete(c.m, cacheKey{s, first})
	}
}
