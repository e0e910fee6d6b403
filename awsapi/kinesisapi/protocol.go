package kinesisapi

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
)

// maxPooled is the largest buffer that is kept for the next request.
const maxPooled = 2 << 20

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// budget bounds the bytes that are in use at the same time.
type budget struct {
	mu      sync.Mutex
	left    int64
	waiting []waiter
}

type waiter struct {
	n     int64
	ready chan struct{}
}

func newBudget(n int64) *budget { return &budget{left: n} }

// take waits for n bytes, first come, first served.
func (b *budget) take(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.left >= n {
		b.left -= n
		b.mu.Unlock()
		return nil
	}
	w := waiter{n, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	for i := range b.waiting {
		if b.waiting[i].ready == w.ready {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			b.mu.Unlock()
			return shardlog.ContextError(ctx)
		}
	}
	b.mu.Unlock()
	return nil // it came just now
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.left += n
	for len(b.waiting) > 0 && b.left >= b.waiting[0].n {
		b.left -= b.waiting[0].n
		close(b.waiting[0].ready)
		b.waiting = b.waiting[1:]
	}
	b.mu.Unlock()
}

// firstPiece is how much of a body is read before memory is set aside for the
// whole of it: a client that announces much and sends little holds up nobody.
const firstPiece = 16 << 10

// held is what a body holds of a budget.
type held struct {
	from *budget
	n    int64
}

func (l *held) shrink(n int64) {
	if l.n > n {
		l.from.give(l.n - n)
		l.n = n
	}
}

// readBody reads the body within the limits. If status is not 0 there is
// nothing to answer but it. The body is valid until release is called, which
// may be called more than once.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) (body []byte, release func(), status int) {
	n := r.ContentLength
	switch {
	case n > h.opts.MaxBodyBytes:
		return nil, nil, http.StatusRequestEntityTooLarge
	case n == 0:
		return nil, func() {}, 0
	case n < 0:
		n = h.opts.MaxBodyBytes
	}
	mem := held{h.pieces, min(n, firstPiece)}
	if err := mem.from.take(r.Context(), mem.n); err != nil {
		return nil, nil, http.StatusServiceUnavailable
	}
	buf := buffers.Get().(*[]byte)
	body, err := h.timed(w, func() ([]byte, error) { return readPiece((*buf)[:0], r.Body, n) })
	if err == nil && len(body) == firstPiece && n > firstPiece {
		if err = h.bodies.take(r.Context(), n); err == nil {
			mem.shrink(0)
			mem = held{h.bodies, n}
			body, err = h.timed(w, func() ([]byte, error) { return readInto(body, r.Body, n, r.ContentLength >= 0) })
		}
	}
	mem.shrink(int64(len(body)))
	release = func() {
		if buf == nil {
			return
		}
		if cap(body) <= maxPooled {
			*buf = body
		}
		buffers.Put(buf)
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

// timed reads within BodyTimeout.
func (h *Handler) timed(w http.ResponseWriter, read func() ([]byte, error)) ([]byte, error) {
	// A timer costs less than setting a deadline and taking it back. Not every
	// ResponseWriter has deadlines; then the server's own hold.
	late := time.AfterFunc(h.opts.BodyTimeout, func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) })
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

// newRequestID returns a random UUID.
func newRequestID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[:], b[:4])
	hex.Encode(s[9:], b[4:6])
	hex.Encode(s[14:], b[6:8])
	hex.Encode(s[19:], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// extendedID returns what AWS sends as x-amz-id-2: 72 random bytes.
func extendedID() string {
	var b [72]byte
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rand.Uint64())
	}
	return base64.StdEncoding.EncodeToString(b[:])
}

// preflight sets the headers of every answer; it is done if it has answered.
// Header names are written as AWS writes them.
func (c *call) preflight() (done bool) {
	h := c.w.Header()
	h["x-amzn-RequestId"] = []string{newRequestID()}
	origin := c.r.Header.Get("Origin")
	options := c.r.Method == http.MethodOptions
	if !options || origin == "" {
		h["x-amz-id-2"] = []string{extendedID()}
	}
	if origin != "" {
		h.Set("Access-Control-Allow-Origin", "*")
		if options {
			for from, to := range map[string]string{"Access-Control-Request-Headers": "Access-Control-Allow-Headers",
				"Access-Control-Request-Method": "Access-Control-Allow-Methods"} {
				if v := c.r.Header.Get(from); v != "" {
					h.Set(to, v)
				}
			}
			h.Set("Access-Control-Max-Age", "172800")
			h.Set("Content-Length", "0")
			c.w.WriteHeader(http.StatusOK)
			return true
		}
		h.Set("Access-Control-Expose-Headers", "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date")
	}
	if c.r.Method != http.MethodPost {
		c.denied()
		return true
	}
	return false
}

// raw answers with a body of our own.
func (c *call) raw(status int, media, body string) {
	c.streamed = true
	h := c.w.Header()
	if h["Content-Type"] = nil; media != "" {
		h.Set("Content-Type", media)
	}
	c.w.WriteHeader(status)
	_, _ = io.WriteString(c.w, body) // the client is gone then
}

func (c *call) denied() {
	c.raw(http.StatusForbidden, "", "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n")
}

// forbidden answers requests of a type that the service does not speak.
func (c *call) forbidden(target string) {
	if service, op, ok := cutTarget(target); !ok || service == "" || op == "" {
		c.denied()
		return
	}
	c.raw(http.StatusNotFound, "", "<UnknownOperationException/>\n")
}

func cutTarget(target string) (service, op string, ok bool) {
	for i := range len(target) {
		if target[i] == '.' {
			return target[:i], target[i+1:], true
		}
	}
	return "", "", false
}

// plain answers requests of type application/json, which get no further on
// AWS than to have their body parsed.
func (c *call) plain() error {
	code, status := "UnknownOperationException", http.StatusNotFound
	if err := wellFormed(&jsonSource{data: c.body}); err != nil {
		code, status = "SerializationException", http.StatusBadRequest
	}
	c.raw(status, plainJSON, `{"Output":{"__type":"com.amazon.coral.service#`+code+`"},"Version":"1.0"}`)
	return nil
}
