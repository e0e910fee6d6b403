package once

import "sync/atomic"

// reservation is what one Reserve has reserved: numbers of a producer and dedup
// IDs, which nobody else may store until the outcome is known. An attempt that
// meets one of them waits for the whole reservation, holding none of its own, and
// then the call begins another. So attempts cannot wait for each other in a circle.
type reservation struct {
	left atomic.Int64
	done chan struct{} // closed when nothing is left
}

func newReservation() *reservation { return &reservation{done: make(chan struct{})} }

// add reserves n more.
func (r *reservation) add(n int) { r.left.Add(int64(n)) }

// release releases n of what was reserved.
func (r *reservation) release(n int) {
	if n > 0 && r.left.Add(int64(-n)) == 0 {
		close(r.done)
	}
}
