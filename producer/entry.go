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
	chunk   *chunk  // which data is in, if it is to be used again
	extras  *extras // nil for most
	size    int
	hash    uint64 // of the partition key
	seq     uint64 // in the order of acceptance
	born    int64  // when it was accepted

	state         entryState
	inDoubt       bool  // an attempt ended in an unknown outcome
	explicit      bool  // hashKey was given by the caller
	keyless       bool  // may go to any shard; key and hashKey are made up
	notAggregated bool  // is not to be aggregated
	attempts      int32 // how often it was sent
	maxSlots      int32 // when not 0, the largest request that it may be in
	queue         *keyQueue
	carrier       *request // that carries it, also when its result came before the request's end
	nextInSlot    *entry   // the next one in its aggregate

	// Who is told: a waiter, a callback, or nobody.
	waiter   *waiter
	outIndex int // in w.out
	callback func(Result, error)
	outcome  outcome // its Attempts are collected from the first failure on

	admit chan error // when set, is told once whether the entry was accepted

	in             *list // the list that prev and next belong to
	prev, next     *entry
	older, younger *entry // in the ageList
}

// extras is what few records have.
type extras struct {
	headers []shardlog.Header
	dedupID string
}

func (e *entry) headers() []shardlog.Header {
	if e.extras == nil {
		return nil
	}
	return e.extras.headers
}

func (e *entry) dedupID() string {
	if e.extras == nil {
		return ""
	}
	return e.extras.dedupID
}

// asUserRecord is the entry as a part of an aggregate.
func (e *entry) asUserRecord() kpl.UserRecord {
	r := kpl.UserRecord{PartitionKey: e.key, Data: e.data, Headers: e.headers()}
	if e.explicit || e.keyless {
		r.HashKey = e.hashKey
	}
	return r
}

type entryState uint8

const (
	awaitsRoom   entryState = iota // waits for room in the buffer
	queued                         // in ready or in a key queue
	inRequest                      // in a request at the sink
	awaitsResend                   // in a request that has no answer and will be sent again
	resultHeld                     // in a key queue with its result, behind an entry that has none
	decided                        // has its result
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

// cut cuts off the first entries, at most some.
func (c *chain) cut(some int) *entry {
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

// keyQueue is a partition key with a record in flight or in back-off. Entries of
// the key that come meanwhile wait in it.
type keyQueue struct {
	hash     uint64
	entries  list
	retries  list      // collected while a request is being completed
	carrier  *request  // that has records of the key
	lastSlot int       // of these, the last one's
	retryAt  int64     // when the retry may go; 0 without one
	next     *keyQueue // in the keyQueueList, or free
}

// keyQueueList is a queue of key queues.
type keyQueueList struct{ head, tail *keyQueue }

func (q *keyQueueList) push(l *keyQueue) {
	l.next = nil
	if q.tail != nil {
		q.tail.next = l
	} else {
		q.head = l
	}
	q.tail = l
}

func (q *keyQueueList) pushFront(l *keyQueue) {
	l.next = q.head
	q.head = l
	if q.tail == nil {
		q.tail = l
	}
}

func (q *keyQueueList) pop() *keyQueue {
	l := q.head
	q.head = l.next
	if q.head == nil {
		q.tail = nil
	}
	l.next = nil
	return l
}

// retryHeap is a container/heap of key queues by due time.
type retryHeap []*keyQueue

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Less(i, j int) bool { return h[i].retryAt < h[j].retryAt }
func (h retryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *retryHeap) Push(x any) { *h = append(*h, x.(*keyQueue)) }

// Pop implements heap.Interface.
func (h *retryHeap) Pop() any {
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
	if p.records > 0 || p.freeCount <= maxFree {
		return
	}
	p.freeEntries, p.freeCount, p.freeKeyQueues, p.freeChunks = nil, 0, nil, nil
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
	if e.carrier != nil {
		return
	}
	if e.chunk != nil {
		p.releaseData(e.chunk)
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
	buf   [chunkSize]byte
	used  int
	users int // entries
	next  *chunk
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
	c.users++
	return c.buf[from:c.used:c.used], c
}

// releaseData is told that an entry does not need its data in c any more.
func (p *Producer) releaseData(c *chunk) {
	if c.users--; c.users > 0 {
		return
	}
	c.used = 0
	if c != p.chunk {
		c.next, p.freeChunks = p.freeChunks, c
	}
}

func (p *Producer) newKeyQueue(hash uint64) *keyQueue {
	l := p.freeKeyQueues
	if l == nil {
		l = &keyQueue{}
	} else {
		p.freeKeyQueues = l.next
	}
	l.hash, l.next = hash, nil
	p.keys[hash] = l
	return l
}

// dropKeyQueue forgets a key that has nothing in flight and nothing waiting.
func (p *Producer) dropKeyQueue(l *keyQueue) {
	delete(p.keys, l.hash)
	*l = keyQueue{next: p.freeKeyQueues}
	p.freeKeyQueues = l
}
