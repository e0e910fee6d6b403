package producer

import "github.com/shardlog/shardlog"

// page is a run of records in arrays: a whole request, or what has arrived for
// the next one. A record in it costs a few stores under Producer.mu, and no
// memory of its own. A page knows of nothing but the usual course, in which all
// of it goes to the sink in one request and is stored. For anything else
// core.unpack makes entries of its records first.
//
// Its numbers are those of a run: record i is the one with number first+i. It
// is in one place at a time: buffer.pages, a request, outbox.pages, the callback
// goroutine, or memory.freePages. Once it has left buffer.pages, its items do
// not change, so that a sender may read them without Producer.mu.
type page struct {
	items    []item
	hashKeys []shardlog.HashKey // of the items, if one of them has a hash key of its own
	slab     []byte             // where data is copied to; slices of it are in items
	first    uint64             // number of the first item
	bytes    int                // sizes of the items
	foreign  bool               // others may still refer to its memory: it is not used again

	// Of a page that is stored and has callbacks.
	results  []shardlog.PutResult
	attempts []Attempt // of each record
	called   int       // items that the callback goroutine has taken

	next *page // in a pageQueue or memory.freePages
}

// item is a record in a page.
type item struct {
	key  string
	data []byte
	born int64 // when it was accepted
	recipient
}

func (it *item) size() int { return len(it.key) + len(it.data) }

// pageData is the largest data that is copied into a slab. Larger data has
// memory of its own, which is copied without the lock.
const pageData = 4096

// minSlab is how large a page's first slab is at least.
const minSlab = 1024

// add appends a record. Copied says that data is not the page's yet, and has at
// most pageData bytes. Its slab grows by being replaced, since items refer to it:
// a page that is used again has one that is large enough.
func (pg *page) add(key string, data []byte, copied bool, hashKey shardlog.HashKey, to recipient, now int64) {
	if n := len(data); n > 0 && copied {
		if cap(pg.slab)-len(pg.slab) < n {
			pg.slab = make([]byte, 0, max(2*cap(pg.slab), minSlab, n))
		}
		from := len(pg.slab)
		pg.slab = append(pg.slab, data...)
		data = pg.slab[from:len(pg.slab):len(pg.slab)]
	}
	if hashKey.IsSet() || len(pg.hashKeys) > 0 {
		for len(pg.hashKeys) < len(pg.items) {
			pg.hashKeys = append(pg.hashKeys, shardlog.HashKey{})
		}
		pg.hashKeys = append(pg.hashKeys, hashKey)
	}
	pg.items = append(pg.items, item{key: key, data: data, born: now, recipient: to})
	pg.bytes += len(key) + len(data)
}

// hashKey returns the hash key that the caller gave item i.
func (pg *page) hashKey(i int) shardlog.HashKey {
	if len(pg.hashKeys) == 0 {
		return shardlog.HashKey{}
	}
	return pg.hashKeys[i]
}

// resultOf returns the result of a record that was stored at the first attempt.
func resultOf(r *shardlog.PutResult, attempts []Attempt) Result {
	return Result{ShardID: r.ShardID, Sequence: r.Sequence, Duplicate: r.Duplicate, Sends: 1, Attempts: attempts}
}

// reset makes pg ready for other records.
func (pg *page) reset() {
	clear(pg.items)
	clear(pg.results)
	*pg = page{items: pg.items[:0], hashKeys: pg.hashKeys[:0], slab: pg.slab[:0], results: pg.results[:0]}
}

// pageQueue is a queue of pages.
type pageQueue struct {
	head, tail *page
	n          int // records
	bytes      int
}

func (q *pageQueue) push(pg *page) {
	if q.tail != nil {
		q.tail.next = pg
	} else {
		q.head = pg
	}
	q.tail = pg
	q.n += len(pg.items)
	q.bytes += pg.bytes
}

func (q *pageQueue) pop() *page {
	pg := q.head
	if q.head = pg.next; q.head == nil {
		q.tail = nil
	}
	pg.next = nil
	q.n -= len(pg.items)
	q.bytes -= pg.bytes
	return pg
}
