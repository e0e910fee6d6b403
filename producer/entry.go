package producer

import (
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// entry is one record from the call that brought it to its result.
type entry struct {
	key     string
	hashKey shardlog.HashKey // the record's own, or where it belongs: see explicit
	data    []byte
	chunk   *chunk // which data is in, if it is to be used again
	more    *more  // nil for most
	size    int
	hash    uint64 // of the partition key
	seq     uint64 // in the order of acceptance
	born    int64  // when it was accepted

	state    entryState
	maybe    bool  // an attempt ended in an unknown outcome
	explicit bool  // hashKey was given by the caller
	keyless  bool  // may go to any shard; key and hashKey are made up
	solo     bool  // is not to be aggregated
	attempts int32 // how often it was sent
	alone    int32 // when not 0, the largest request that it may be in
	lane     *lane
	req      *request // that carries it, also when its result came before the request's end
	mate     *entry   // the next one in its aggregate

	// Who is told: a waiter, a callback, or nobody.
	w     *waiter
	index int // in w.out
	done  func(Result, error)
	out   outcome // its Attempts are collected from the first failure on

	admit chan error // when set, is told once whether the entry was accepted

	in             *list // the list that prev and next belong to
	prev, next     *entry
	older, younger *entry // in the ageList
}

// more is what few records have.
type more struct {
	headers []shardlog.Header
	dedupID string
}

func (e *entry) headers() []shardlog.Header {
	if e.more == nil {
		return nil
	}
	return e.more.headers
}

func (e *entry) dedupID() string {
	if e.more == nil {
		return ""
	}
	return e.more.dedupID
}

// user is the entry as a part of an aggregate.
func (e *entry) user() kpl.UserRecord {
	r := kpl.UserRecord{PartitionKey: e.key, Data: e.data, Headers: e.headers()}
	if e.explicit || e.keyless {
		r.HashKey = e.hashKey
	}
	return r
}

type entryState uint8

const (
	inRoom  entryState = iota // waits for room in the buffer
	queued                    // in ready or in a lane
	sending                   // in a request at the sink
	parked                    // in a request that has no answer and will be sent again
	settled                   // in a lane with its result, behind an entry that has none
	decided                   // has its result
)

// outcome is the result of an entry.
type outcome struct {
	set bool
	res Result
	err error
}

// waiter is a call of Put or PutBatch that waits for its records.
type waiter struct {
	ch   chan struct{} // is sent one value when left becomes 0
	left int
	out  []outcome
	one  [1]outcome
	next *waiter
}

// list is a queue of entries. An entry is in one list at most.
type list struct {
	head, tail *entry
	n          int
	bytes      int
}

func (l *list) push(e *entry) {
	e.in, e.prev, e.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = e
	} else {
		l.head = e
	}
	l.tail = e
	l.n++
	l.bytes += e.size
}

func (l *list) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.tail = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
	l.n--
	l.bytes -= e.size
}

// chain is a queue of entries that are in no list.
type chain struct {
	head, tail *entry
	n          int
}

func (c *chain) push(e *entry) {
	if c.tail != nil {
		c.tail.next = e
	} else {
		c.head = e
	}
	c.tail = e
	c.n++
}

// take cuts off the first entries, at most some.
func (c *chain) take(some int) *entry {
	first := c.head
	if c.n <= some {
		*c = chain{}
		return first
	}
	last := first
	for range some - 1 {
		last = last.next
	}
	c.head, last.next = last.next, nil
	c.n -= some
	return first
}

// prependAll moves the entries of o before those of l.
func (l *list) prependAll(o *list) {
	for e := o.tail; e != nil; e = o.tail {
		o.remove(e)
		e.in, e.next = l, l.head
		if l.head != nil {
			l.head.prev = e
		} else {
			l.tail = e
		}
		l.head = e
		l.n++
		l.bytes += e.size
	}
}

// ageList holds entries in the order in which they were accepted.
type ageList struct{ oldest, youngest *entry }

func (l *ageList) push(e *entry) {
	e.older, e.younger = l.youngest, nil
	if l.youngest != nil {
		l.youngest.younger = e
	} else {
		l.oldest = e
	}
	l.youngest = e
}

func (l *ageList) remove(e *entry) {
	if e.older != nil {
		e.older.younger = e.younger
	} else {
		l.oldest = e.younger
	}
	if e.younger != nil {
		e.younger.older = e.older
	} else {
		l.youngest = e.older
	}
	e.older, e.younger = nil, nil
}

// lane is a partition key with a record in flight or in back-off. Entries of
// the key that come meanwhile wait in it.
type lane struct {
	hash    uint64
	waiting list
	retry   list     // collected while a request is being completed
	req     *request // that has records of the key
	slot    int      // of these, the last one's
	due     int64    // when the retry may go; 0 without one
	next    *lane    // in the laneQueue, or free
}

// laneQueue is a queue of lanes.
type laneQueue struct{ head, tail *lane }

func (q *laneQueue) push(l *lane) {
	l.next = nil
	if q.tail != nil {
		q.tail.next = l
	} else {
		q.head = l
	}
	q.tail = l
}

func (q *laneQueue) pushFront(l *lane) {
	l.next = q.head
	q.head = l
	if q.tail == nil {
		q.tail = l
	}
}

func (q *laneQueue) pop() *lane {
	l := q.head
	q.head = l.next
	if q.head == nil {
		q.tail = nil
	}
	l.next = nil
	return l
}

// laneHeap is a container/heap of lanes by due time.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h laneHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *laneHeap) Push(x any) { *h = append(*h, x.(*lane)) }

// Pop implements heap.Interface.
func (h *laneHeap) Pop() any {
	n := len(*h) - 1
	l := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return l
}

// maxFree bounds what is kept for reuse for longer than idleTime while nothing
// is pending.
const (
	maxFree  = 4096
	idleTime = time.Second
)

// trim drops what is kept for reuse if that is much for a producer with nothing
// pending.
func (p *Producer) trim() {
	if p.live > 0 || p.freeCount <= maxFree {
		return
	}
	p.freeEntries, p.freeCount, p.freeLanes, p.freeChunks = nil, 0, nil, nil
	for b := p.freeRequests; b != nil; b = b.next {
		if b.cancel != nil { // it was sent
			b.cancel()
		}
	}
	p.freeRequests = nil
}

func (p *Producer) newEntry() *entry {
	e := p.freeEntries
	if e == nil {
		return &entry{}
	}
	p.freeEntries, e.next = e.next, nil
	p.freeCount--
	return e
}

// recycle takes back an entry that is finished. One that a request still
// carries is left to the garbage collector.
func (p *Producer) recycle(e *entry) {
	if e.req != nil {
		return
	}
	if e.chunk != nil {
		p.dropData(e.chunk)
	}
	*e = entry{next: p.freeEntries}
	p.freeEntries = e
	p.freeCount++
}

// Small payloads are copied into chunks, which are used again when no entry has
// its data there. One whose data a sink may still be reading is never counted
// out: its chunk goes to the garbage collector. A record that stays long keeps
// its chunk, so chunks are small, too.
const (
	chunkSize = 1024
	smallData = 256
)

type chunk struct {
	buf  [chunkSize]byte
	used int
	live int // entries
	next *chunk
}

// copyData copies data of 1 to smallData bytes.
func (p *Producer) copyData(data []byte) ([]byte, *chunk) {
	c := p.chunk
	if c == nil || chunkSize-c.used < len(data) {
		if c = p.freeChunks; c == nil {
			c = new(chunk)
		} else {
			p.freeChunks, c.next = c.next, nil
		}
		p.chunk = c
	}
	from := c.used
	c.used += copy(c.buf[from:], data)
	c.live++
	return c.buf[from:c.used:c.used], c
}

// dropData is told that an entry does not need its data in c any more.
func (p *Producer) dropData(c *chunk) {
	if c.live--; c.live > 0 {
		return
	}
	c.used = 0
	if c != p.chunk {
		c.next, p.freeChunks = p.freeChunks, c
	}
}

func (p *Producer) newLane(hash uint64) *lane {
	l := p.freeLanes
	if l == nil {
		l = &lane{}
	} else {
		p.freeLanes = l.next
	}
	l.hash, l.next = hash, nil
	p.keys[hash] = l
	return l
}

// dropLane forgets a key that has nothing in flight and nothing waiting.
func (p *Producer) dropLane(l *lane) {
	delete(p.keys, l.hash)
	*l = lane{next: p.freeLanes}
	p.freeLanes = l
}
