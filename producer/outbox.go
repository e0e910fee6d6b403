package producer

import "slices"

// outbox is what has a result and waits to be delivered, and the calls of Flush
// and Shutdown that wait for that. The caller of its methods holds Producer.mu.
type outbox struct {
	pending chain // decided entries whose callback has not been called
	running bool  // a goroutine calls callbacks
	flushes []*flush
}

// startCallbacks reports whether callbacks wait and nobody calls them. The caller has to
// see to it that they are called: others rely on that from then on.
func (o *outbox) startCallbacks() bool {
	if o.pending.n == 0 || o.running {
		return false
	}
	o.running = true
	return true
}

// flush is a call that waits for the entries up to a number.
type flush struct {
	seq         uint64
	left        int           // entries that it waits for
	resultsOnly bool          // waits for their results, not for their callbacks
	ch          chan struct{} // closed when left is 0
}

// onProgress counts an entry that has got its result, or, if freed is set, whose
// callback has returned. It is called twice for each record, and usually nobody
// waits.
func (o *outbox) onProgress(seq uint64, freed bool) {
	if len(o.flushes) > 0 {
		o.count(seq, freed)
	}
}

func (o *outbox) count(seq uint64, freed bool) {
	o.flushes = slices.DeleteFunc(o.flushes, func(f *flush) bool {
		if f.resultsOnly == freed || seq > f.seq {
			return false
		}
		f.left--
		if f.left == 0 {
			close(f.ch)
		}
		return f.left == 0
	})
}

// removeFlush ends the wait of a call that returns early.
func (o *outbox) removeFlush(f *flush) {
	o.flushes = slices.DeleteFunc(o.flushes, func(other *flush) bool { return other == f })
}
