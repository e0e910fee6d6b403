package producer

import "container/heap"

// inFlight is what is known of the requests that are at the sink or will be
// sent there again, and of the goroutines that send them. The caller of its
// methods holds Producer.mu.
type inFlight struct {
	senders  int // goroutines that send requests, or were asked for
	starting int // of these, those that have not asked for their first request

	// withoutQueues is the one request at the sink whose keys have no queues.
	// While there is no other, and no record fails, nothing needs them.
	withoutQueues *request

	inDoubt resendHeap // requests whose outcome is not known, until they are sent again
	numbers numbers
	epoch   uint64 // of the identity; 0 before it is opened
	free    *request
}

// newRequest returns an empty request.
func (f *inFlight) newRequest() *request {
	b := f.free
	if b == nil {
		return &request{heapIndex: -1}
	}
	f.free, b.next = b.next, nil
	return b
}

// recycle takes back a request whose records are all decided or queued again.
func (f *inFlight) recycle(b *request) {
	b.reset()
	if f.withoutQueues == b {
		f.withoutQueues = nil
	}
	b.next, f.free = f.free, b
}

// dropFree leaves the requests that are kept for reuse to the garbage
// collector. A context that is kept with one ends, because it is registered
// with that of the producer.
func (f *inFlight) dropFree() {
	for b := f.free; b != nil; b = b.next {
		b.giveUp()
	}
	f.free = nil
}

// holdForResend keeps a request in doubt until it is sent again. Its keys stay
// in use meanwhile, so nothing can overtake it.
func (f *inFlight) holdForResend(b *request, at int64) {
	b.results, b.err = nil, nil
	b.resendAt = at
	heap.Push(&f.inDoubt, b)
}

// popResend returns a request in doubt whose time has come; nil if there is
// none.
func (f *inFlight) popResend(now int64) *request {
	if len(f.inDoubt) == 0 || f.inDoubt[0].resendAt > now {
		return nil
	}
	return heap.Pop(&f.inDoubt).(*request)
}

// retireNumbers records that the numbers of a request will not be sent again.
func (f *inFlight) retireNumbers(b *request) {
	for i := range b.slots {
		f.numbers.retire(b.slots[i].number)
	}
}

// resendHeap is a container/heap of requests by resendAt.
type resendHeap []*request

func (h resendHeap) Len() int           { return len(h) }
func (h resendHeap) Less(i, j int) bool { return h[i].resendAt < h[j].resendAt }
func (h resendHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (h *resendHeap) Push(x any) {
	b := x.(*request)
	b.heapIndex = len(*h)
	*h = append(*h, b)
}

// Pop implements heap.Interface.
func (h *resendHeap) Pop() any {
	n := len(*h) - 1
	b := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	b.heapIndex = -1
	return b
}
