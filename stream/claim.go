package stream

import "sync/atomic"

// claim is what one call has taken on to store: numbers of a producer and
// dedup IDs, which nobody else may store until the outcome is known. Who meets
// one of them waits for the whole claim, holding none of its own, and looks
// again.
type claim struct {
	left atomic.Int64
	done chan struct{} // closed when nothing is left
}

func newClaim() *claim { return &claim{done: make(chan struct{})} }

// release gives back n of what was claimed.
func (c *claim) release(n int) {
	if n > 0 && c.left.Add(int64(-n)) == 0 {
		close(c.done)
	}
}
