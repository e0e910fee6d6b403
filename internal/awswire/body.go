package awswire

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// firstPiece is how much of a body is read before memory is reserved for the
// whole of it: a client that announces much and sends little delays nobody.
const firstPiece = 16 << 10

// share is the part of a budget that a body has.
type share struct {
	of *Budget
	n  int64
}

func (s *share) shrink(n int64) {
	if s.n > n {
		s.of.Release(s.n - n)
		s.n = n
	}
}

// Bodies bounds the bodies that are in memory at the same time, and how long
// clients may take. Its methods are safe for concurrent use.
type Bodies struct {
	max        int64
	timeout    time.Duration
	whole      *Budget // for bodies above firstPiece, by the size announced
	beginnings *Budget // for the first piece of each
}

// NewBodies returns bounds: max bytes of one body, total bytes of all of them,
// and timeout for a client to send one.
func NewBodies(max, total int64, timeout time.Duration) *Bodies {
	return &Bodies{max, timeout, NewBudget(total), NewBudget(total / 2)}
}

// Timeout returns how long a client may take.
func (b *Bodies) Timeout() time.Duration { return b.timeout }

// Left returns how many bytes are free: for whole bodies, and for beginnings.
func (b *Bodies) Left() (whole, beginnings int64) { return b.whole.Left(), b.beginnings.Left() }

// Read reads a body within the bounds, waiting for memory first. If status is
// not 0, it is all there is to answer. The body is valid until release is
// called, which may be called more than once.
func (b *Bodies) Read(w http.ResponseWriter, r *http.Request) (body []byte, release func(), status int) {
	n := r.ContentLength
	switch {
	case n > b.max:
		return nil, nil, http.StatusRequestEntityTooLarge
	case n == 0:
		return nil, func() {}, 0
	case n < 0:
		n = b.max
	}
	mem := share{b.beginnings, min(n, firstPiece)}
	if err := mem.of.Reserve(r.Context(), mem.n); err != nil {
		return nil, nil, http.StatusServiceUnavailable
	}
	buf := Buffers.Get().(*[]byte)
	body, err := b.timed(w, func() ([]byte, error) { return readPiece((*buf)[:0], r.Body, n) })
	if err == nil && len(body) == firstPiece && n > firstPiece {
		if err = b.whole.Reserve(r.Context(), n); err == nil {
			mem.shrink(0)
			mem = share{b.whole, n}
			body, err = b.timed(w, func() ([]byte, error) { return readInto(body, r.Body, n, r.ContentLength >= 0) })
		}
	}
	mem.shrink(int64(len(body)))
	release = func() {
		if buf == nil {
			return
		}
		if cap(body) <= MaxPooled {
			*buf = body
		}
		Buffers.Put(buf)
		buf = nil
		mem.shrink(0)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		release()
		if errors.Is(err, errTooLarge) {
			return nil, nil, http.StatusRequestEntityTooLarge
		}
		return nil, nil, http.StatusBadRequest
	}
	return body, release, 0
}

// timed reads within the timeout.
func (b *Bodies) timed(w http.ResponseWriter, read func() ([]byte, error)) ([]byte, error) {
	// A timer costs less than setting a deadline and taking it back. Not every
	// ResponseWriter has deadlines; then the server's own hold.
	late := time.AfterFunc(b.timeout, func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) })
	body, err := read()
	if !late.Stop() {
		w.Header().Set("Connection", "close") // the deadline may come yet
	}
	return body, err
}

// readPiece reads a body of up to most bytes, or the first piece of one that
// is longer.
func readPiece(b []byte, r io.Reader, most int64) ([]byte, error) {
	if most <= firstPiece {
		return readInto(b, r, most, true)
	}
	if cap(b) < firstPiece {
		b = make([]byte, 0, firstPiece)
	}
	for len(b) < firstPiece {
		n, err := r.Read(b[len(b):firstPiece])
		if b = b[:len(b)+n]; err != nil {
			return b, err
		}
	}
	return b, nil
}

var errTooLarge = errors.New("the body is too large")

// readInto reads up to most bytes. It trusts a length that was announced only
// as far as bytes come.
func readInto(b []byte, r io.Reader, most int64, announced bool) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			grow := max(int64(cap(b)), 2*firstPiece)
			if left := most - int64(len(b)); announced && left < 4*grow {
				grow = left + 1 // one more shows the end
			}
			b = append(make([]byte, 0, int64(len(b))+grow), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > most:
			return b, errTooLarge
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return b, err
		}
	}
}
