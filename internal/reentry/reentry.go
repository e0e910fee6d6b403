// Package reentry recognizes a call that comes from inside a callback of the
// object it is made on, so that such a call does not wait for itself.
//
// A context would be the better carrier, but a callback of package producer has
// none, and a handler of package consumer may call with another one. So the
// goroutine is asked. A callback that starts a goroutine and waits for it is
// not recognized.
package reentry

import (
	"bytes"
	"runtime"
	"strconv"
	"sync"
)

// GoroutineID is the runtime's number of a goroutine. No two goroutines have
// the same one; 0 is nobody's.
type GoroutineID uint64

// Current returns the number of the calling goroutine. It reads the first line
// of the stack, "goroutine 7 [running]:", because there is no other way to
// ask; that takes about a microsecond. For a line that looks different it
// returns 0, so that a call counts as one from outside.
func Current() GoroutineID {
	var buf [64]byte
	s := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	digits, _, _ := bytes.Cut(s, []byte(" "))
	id, _ := strconv.ParseUint(string(digits), 10, 64)
	return GoroutineID(id)
}

// Goroutines are those that run callbacks of an object. The zero value is an
// empty set. Methods are safe for concurrent use and do not block.
type Goroutines struct {
	mu  sync.Mutex
	ids map[GoroutineID]int // how often each one has entered
}

// Enter adds the calling goroutine. Each Enter has a Leave with its result; a
// goroutine may enter several times.
func (g *Goroutines) Enter() GoroutineID {
	id := Current()
	if id == 0 {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ids == nil {
		g.ids = make(map[GoroutineID]int)
	}
	g.ids[id]++
	return id
}

// Leave ends the Enter that returned id. Any goroutine may call it. It does
// nothing with the id of a goroutine that is not in the set, such as 0.
func (g *Goroutines) Leave(id GoroutineID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.ids[id]; n > 1 {
		g.ids[id] = n - 1
	} else {
		delete(g.ids, id)
	}
}

// Inside reports whether the calling goroutine is in the set.
func (g *Goroutines) Inside() bool {
	id := Current()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ids[id] > 0
}
