package producer

import (
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

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
	encoded  bool               // all items are encoded as well
	foreign  bool               // others may still refer to its memory: it is not used again

	// Of a page that is stored and has callbacks.
	results  []shardlog.PutResult
	attempts []Attempt // of each record
	called   int       // items that the callback goroutine has taken

	next *page // in a pageQueue or memory.freePages
}

// item is a record in a page.
type item struct {
	key   string
	bytes []byte // the data, or the encoded record, which ends with it
	born  int64  // when it was accepted
	n     int    // bytes of data
	recipient
}

func (it *item) data() []byte { return it.bytes[len(it.bytes)-it.n:] }
func (it *item) size() int    { return len(it.key) + it.n }

// pageData is the largest data that is copied into a slab. Larger data has
// memory of its own, which is copied without the lock.
const pageData = 4096

// minSlab is how large a page's first slab is at least.
const minSlab = 1024

// storing says what a page does with a record's data.
type storing uint8

const (
	asItIs  storing = iota // refers to it
	copied                 // copies it into its slab
	encoded                // the record is encoded into the slab
)

// add appends a record. What is copied or encoded has at most pageData bytes of
// data.
func (pg *page) add(key string, data []byte, how storing, hashKey shardlog.HashKey, to recipient, now int64) {
	bytes := data
	switch {
	case how == encoded:
		pg.makeRoom(block.MaxEncoded(key, data))
		from := len(pg.slab)
		pg.slab = block.AppendRecord(pg.slab, key, hashKey, data)
		bytes = pg.slab[from:len(pg.slab):len(pg.slab)]
	case how == copied && len(data) > 0:
		pg.makeRoom(len(data))
		from := len(pg.slab)
		pg.slab = append(pg.slab, data...)
		bytes = pg.slab[from:len(pg.slab):len(pg.slab)]
	}
	pg.encoded = how == encoded && (pg.encoded || len(pg.items) == 0)
	if hashKey.IsSet() || len(pg.hashKeys) > 0 {
		for len(pg.hashKeys) < len(pg.items) {
			pg.hashKeys = append(pg.hashKeys, shardlog.HashKey{})
		}
		pg.hashKeys = append(pg.hashKeys, hashKey)
	}
	pg.items = append(pg.items, item{key: key, bytes: bytes, n: len(data), born: now, recipient: to})
	pg.bytes += len(key) + len(data)
}

// makeRoom makes room for n bytes in the slab. It grows by being replaced, since
// items refer to it: a page that is used again has one that is large enough.
func (pg *page) makeRoom(n int) {
	if cap(pg.slab)-len(pg.slab) < n {
		pg.slab = make([]byte, 0, max(2*cap(pg.slab), minSlab, n))
	}
}

// Len implements block.Run.
func (pg *page) Len() int { return len(pg.items) }

// At implements block.Run, for a page whose items are encoded.
func (pg *page) At(i int, e *block.Encoded) {
	it := &pg.items[i]
	e.Key, e.HashKey, e.Bytes, e.Data = it.key, pg.hashKey(i), it.bytes, it.data()
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

// takeResults takes over the results of b. A slice of the sink's is copied,
// because the sink may use it again.
func (pg *page) takeResults(b *request) {
	if pg.encoded {
		pg.results, b.own = b.results, pg.results[:0]
		return
	}
	pg.results = append(pg.results[:0], b.results...)
}

// reset makes pg ready for other records.
func (pg *page) reset() {
	clear(pg.items)
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
