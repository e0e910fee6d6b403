package consumer

import (
	"bytes"
	"context"
	"runtime"
	"strconv"
)

// runKey finds the run in a handler's context.
type runKey struct{}

// inside tells whether the caller is a handler or callback of r, which must
// not wait for r. Ctx tells it when it comes from a handler; the goroutine
// does when it does not.
func (r *run) inside(ctx context.Context) bool {
	if ctx.Value(runKey{}) == r {
		return true
	}
	id := goroutineID()
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.goroutines[id]
	return ok
}

// enter notes that the calling goroutine works for r until the returned
// function is called.
func (r *run) enter() (leave func()) {
	id := goroutineID()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.goroutines[id] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.goroutines, id)
	}
}

// goroutineID reads the number from the first line of the stack, "goroutine 7
// [running]:"; there is no other way to ask. It decides only whether Shutdown
// waits, and 0, for a line that looks different, means that it does.
func goroutineID() uint64 {
	var buf [64]byte
	s := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	digits, _, _ := bytes.Cut(s, []byte(" "))
	id, _ := strconv.ParseUint(string(digits), 10, 64)
	return id
}
