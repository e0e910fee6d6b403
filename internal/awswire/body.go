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

// Body is a body that was read, and its part of the bounds. The zero value is empty.
// It belongs to the goroutine of the request.
type Body struct {
	Bytes  []byte // valid until Recycle or Release
	buffer *[]byte
	mem    share
}

// Recycle lets other requests use the memory of the bytes. The part of the bounds
// stays, for what was made of them. It may be called more than once.
func (b *Body) Recycle() {
	if b.buffer == nil {
		return
	}
	if cap(b.Bytes) <= MaxPooled {
		*b.buffer = b.Bytes
	}
	Buffers.Put(b.buffer)
	b.Bytes, b.buffer = nil, nil
}

// Release is Recycle, and gives back the part of the bounds. It may be called more
// than once.
func (b *Body) Release() {
	b.Recycle()
	b.mem.shrink(0)
}

// Read reads a body within the bounds into an empty one, waiting for memory first.
// If status is not 0, it is all there is to answer, and the body is empty.
func (b *Bodies) Read(w http.ResponseWriter, r *http.Request, body *Body) (status int) {
	n := r.ContentLength
	switch {
	case n > b.max:
		return http.StatusRequestEntityTooLarge
	case n == 0:
		return 0
	case n < 0:
		n = b.max
	}
	body.mem = share{b.beginnings, min(n, firstPiece)}
	if err := body.mem.of.Reserve(r.Context(), body.mem.n); err != nil {
		body.mem = share{} // it has nothing
		return http.StatusServiceUnavailable
	}
	body.buffer = Buffers.Get().(*[]byte)
	p, err := b.timed(w, func() ([]byte, error) { return readPiece((*body.buffer)[:0], r.Body, n) })
	if err == nil && len(p) == firstPiece && n > firstPiece {
		if err = b.whole.Reserve(r.Context(), n); err == nil {
			body.mem.shrink(0)
			body.mem = share{b.whole, n}
			p, err = b.timed(w, func() ([]byte, error) { return readInto(p, r.Body, n, r.ContentLength >= 0) })
		}
	}
	body.Bytes = p
	body.mem.shrink(int64(len(p)))
	if err == nil || errors.Is(err, io.EOF) {
		return 0
	}
	body.Release()
	if errors.Is(err, errTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
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
