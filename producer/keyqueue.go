package producer

import "container/heap"

// keyQueue is what is known of a partition key that is in a request or in
// back-off. Entries of the key that come meanwhile wait in it, so that none
// overtakes another.
type keyQueue struct {
	hash     uint64
	entries  list
	retries  list      // collected while a request is being completed; they go first
	carrier  *request  // that has records of the key; nil while it is in no request
	lastSlot int       // of carrier's, the last one with a record of the key
	retryAt  int64     // when the retry may go; 0 without one
	next     *keyQueue // in a keyQueueList, or free
}

// keyQueueList is a queue of key queues.
type keyQueueList struct{ head, tail *keyQueue }

func (l *keyQueueList) push(q *keyQueue) {
	q.next = nil
	if l.tail != nil {
		l.tail.next = q
	} else {
		l.head = q
	}
	l.tail = q
}

func (l *keyQueueList) pushFront(q *keyQueue) {
	q.next = l.head
	l.head = q
	if l.tail == nil {
		l.tail = q
	}
}

func (l *keyQueueList) pop() *keyQueue {
	q := l.head
	l.head = q.next
	if l.head == nil {
		l.tail = nil
	}
	q.next = nil
	return q
}

// retryHeap is a container/heap of key queues by retryAt.
type retryHeap []*keyQueue

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Less(i, j int) bool { return h[i].retryAt < h[j].retryAt }
func (h retryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *retryHeap) Push(x any) { *h = append(*h, x.(*keyQueue)) }

// Pop implements heap.Interface.
func (h *retryHeap) Pop() any {
	n := len(*h) - 1
	q := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return q
}

// keyQueues are the key queues of a producer. Each is in one place: its
// carrier's, runnable, retries, or the list of a shard whose limit it waits
// for. The caller of the methods holds Producer.mu.
type keyQueues struct {
	byHash   map[uint64]*keyQueue // every one
	runnable keyQueueList         // may go into a request now
	retries  retryHeap            // wait for their retryAt
	free     *keyQueue
}

// find returns the queue of a key; nil when the key has none.
func (k *keyQueues) find(hash uint64) *keyQueue {
	if len(k.byHash) == 0 { // looking into an empty map costs more
		return nil
	}
	return k.byHash[hash]
}

// create makes the queue of a key that has none.
func (k *keyQueues) create(hash uint64) *keyQueue {
	q := k.free
	if q == nil {
		q = &keyQueue{}
	} else {
		k.free = q.next
	}
	q.hash, q.next = hash, nil
	k.byHash[hash] = q
	return q
}

// drop removes the queue of a key that has nothing in a request and nothing
// waiting.
func (k *keyQueues) drop(q *keyQueue) {
	delete(k.byHash, q.hash)
	*q = keyQueue{next: k.free}
	k.free = q
}

// release ends the use of a key by a request. Its retries go before what
// waited.
func (k *keyQueues) release(q *keyQueue) {
	q.carrier = nil
	q.entries.prependAll(&q.retries)
	switch {
	case q.entries.n == 0:
		k.drop(q)
	case q.retryAt > 0:
		heap.Push(&k.retries, q)
	default:
		k.runnable.push(q)
	}
}

// promoteRetries makes the queues runnable whose retryAt has come.
func (k *keyQueues) promoteRetries(now int64) {
	for len(k.retries) > 0 && k.retries[0].retryAt <= now {
		q := heap.Pop(&k.retries).(*keyQueue)
		q.retryAt = 0
		if q.entries.n == 0 {
			k.drop(q)
		} else {
			k.runnable.push(q)
		}
	}
}
