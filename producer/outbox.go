package producer

import "slices"

// outbox is what has a result and waits to be delivered, and the calls of Flush
// and Shutdown that wait for that. The caller of its methods holds Producer.mu.
type outbox struct {
	// What is stored or failed and whose callback has not been called. Pages
	// come before the entries.
	pages   pageQueue
	pending chain

	running bool // a goroutine calls callbacks
	flushes []*flush
}

// startCallbacks reports whether callbacks wait and nobody calls them. The caller has to
// see to it that they are called: others rely on that from then on.
func (o *outbox) startCallbacks() bool {
	if o.waiting() == 0 || o.running {
		return false
	}
	o.running = true
	return true
}

// waiting returns how many callbacks are still to be called, with the records of
// pages that have none.
func (o *outbox) waiting() int { return o.pages.n + o.pending.n }

// cut takes out the first records, at most a number.
func (o *outbox) cut(most int) delivery {
	pg := o.pages.head
	if pg == nil {
		first := o.pending.cut(most)
		return delivery{first: first, next: first}
	}
	d := delivery{page: pg, from: pg.called, at: pg.called, to: min(pg.called+most, len(pg.items))}
	pg.called = d.to
	o.pages.n -= d.to - d.from
	if d.to == len(pg.items) {
		o.pages.n += len(pg.items) // which pop counts
		o.pages.pop()
	}
	return d
}

// delivery is what the callback goroutine has taken: a chain of entries from
// first on, or items of a page from the index from on to before to. The callbacks
// of those before next, or before at, were called.
type delivery struct {
	first, next *entry

	page         *page
	from, at, to int
}

// isEmpty reports whether d has no callback that is still to be called.
func (d *delivery) isEmpty() bool { return d.first == nil && d.from == d.to }

// take returns the next callback to call, with its arguments; nil when none is
// left.
func (d *delivery) take() (callback func(Result, error), res Result, err error) {
	for d.at < d.to {
		i := d.at
		d.at++
		if callback := d.page.items[i].callback; callback != nil {
			return callback, resultOf(&d.page.results[i], d.page.attempts), nil
		}
	}
	if e := d.next; e != nil {
		d.next = e.next
		return e.callback, e.outcome.res, e.outcome.err
	}
	return nil, Result{}, nil
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
