// Package kinesisapi serves a stream database over the protocol of Amazon
// Kinesis Data Streams, so that any AWS SDK can be pointed at it: all
// operations of the service model, in JSON and in CBOR, with the answers, the
// errors and the sequence numbers of AWS.
//
// The Handler is an http.Handler for any net/http server. SubscribeToShard
// works over HTTP/1.1 and HTTP/2, also without TLS, where the server allows
// it, as that of Handler.Server does. See docs/COMPATIBILITY.md for what differs
// from AWS.
package kinesisapi

import (
	"context"
	"crypto/cipher"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Handler is the endpoint of one database. Use NewHandler. Its methods are
// safe for concurrent use.
type Handler struct {
	db     *stream.DB
	opts   Options
	tokens cipher.AEAD // seals iterators and page tokens
	bodies *budget
	pieces *budget      // for the beginnings of bodies
	pages  *budget      // for large answers
	offset atomic.Int64 // of the clock, nanoseconds
	faults faults
	rates  rates
	quit   context.Context // ends when the handler is closed
	stop   context.CancelFunc
	wg     sync.WaitGroup // deletions under way, subscriptions

	accounts sync.Mutex // held while the settings of an account are changed

	mu     sync.RWMutex
	states map[string]*streamState // by name in the database
	closed bool
}

// NewHandler returns the endpoint of a database, which stays the caller's to
// close, after the handler. Opts may be nil. The error matches
// shardlog.ErrInvalid, with all faults of opts, or is that of the database, in
// which the handler keeps the key that it seals iterators with.
func NewHandler(db *stream.DB, opts *Options) (*Handler, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, &shardlog.Error{Op: "new handler", Err: err}
	}
	if db == nil {
		return nil, &shardlog.Error{Op: "new handler", Err: &shardlog.InvalidError{Field: "db", Value: nil, Limit: "not nil"}}
	}
	h := &Handler{db: db, opts: o, states: map[string]*streamState{}, bodies: newBudget(o.MaxBodiesBytes), pieces: newBudget(o.MaxBodiesBytes / 2), pages: newBudget(max(o.MaxBodiesBytes, largePage))}
	h.quit, h.stop = context.WithCancel(context.Background())
	if h.tokens, err = sealer(h.quit, db); err != nil {
		h.stop()
		return nil, &shardlog.Error{Op: "new handler", Err: err}
	}
	return h, nil
}

// Close ends all subscriptions, after which no call of the handler is left
// that waits, and deletes the streams that are being deleted. Requests that
// come later are answered with status 503. It is idempotent and returns nil.
func (h *Handler) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.wg.Wait()
	return nil
}

// now is the time of the endpoint.
func (h *Handler) now() time.Time { return time.Now().Add(time.Duration(h.offset.Load())) }

// SetClockOffset moves the clock of the endpoint: the life of iterators and
// subscriptions, stream states, and the dates of signatures. The clock by
// which records arrive and expire is the machine's.
func (h *Handler) SetClockOffset(d time.Duration) { h.offset.Store(int64(d)) }

// ClockOffset returns what SetClockOffset has set.
func (h *Handler) ClockOffset() time.Duration { return time.Duration(h.offset.Load()) }

// call is one request.
type call struct {
	h     *Handler
	ctx   context.Context
	w     http.ResponseWriter
	r     *http.Request
	op    *operation
	scope scope
	body  []byte
	cbor  bool
	in    params
	put   *putInput // of PutRecords and PutRecord, in place of in
	arena *[]byte   // that put refers to
	out   encoder
	name  string // of the stream, as far as known
	// loseAnswer is set by a fault: the operation is carried out, and then the
	// connection is closed.
	loseAnswer bool
	after      func() // called when the answer was sent
	// release gives the memory of body back.
	release func()
	// streamed is set when the operation has answered itself.
	streamed bool
}

func (c *call) streamName() string {
	if c.name == "" && c.in != nil {
		return c.in.str("StreamName")
	}
	return c.name
}

const (
	typeJSON  = "application/x-amz-json-1.1"
	typeCBOR  = "application/x-amz-cbor-1.1"
	plainJSON = "application/json"

	targetPrefix = "Kinesis_20131202."
	adminPrefix  = "/_shardlog/"
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPrefix) {
		h.serveAdmin(w, r)
		return
	}
	body, release, status := h.readBody(w, r)
	if status != 0 {
		w.Header().Set("Connection", "close")
		w.WriteHeader(status)
		return
	}
	defer release()
	c := &call{h: h, ctx: r.Context(), w: w, r: r, body: body, release: release}
	if c.preflight() {
		return
	}
	h.mu.RLock()
	closed := h.closed
	h.mu.RUnlock()
	buf := buffers.Get().(*[]byte)
	c.out.buf = (*buf)[:0]
	defer func() {
		if c.after != nil {
			c.after()
		}
	}()
	err := c.serve(closed)
	c.releaseArena()
	if c.streamed {
		buffers.Put(buf)
		return
	}
	if err != nil {
		c.fail(h.answer(err, c))
	} else {
		c.reply(http.StatusOK)
	}
	if cap(c.out.buf) <= maxPooled {
		*buf = c.out.buf
	}
	buffers.Put(buf)
}

// serve runs the request. The order of the checks is that of AWS.
func (c *call) serve(closed bool) error {
	media, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	media = strings.TrimSpace(media)
	target := c.r.Header.Get("X-Amz-Target")
	name, ok := strings.CutPrefix(target, targetPrefix)
	if ok {
		c.op = operations[name]
	}
	c.cbor = media != typeJSON
	c.out.cbor = c.cbor
	switch {
	case len(c.body) == 0 && c.op != nil:
		return &apiError{code: "SerializationException"}
	case len(c.body) == 0:
		return &apiError{code: "UnknownOperationException"}
	case media == plainJSON:
		return c.plain()
	case media != typeJSON && media != typeCBOR:
		c.forbidden(target)
		return nil
	}
	parsed := c.op != nil && c.op.fast != nil && c.op.fast(c)
	if !parsed {
		if err := wellFormed(c.source()); err != nil {
			return err
		}
	}
	if c.op == nil {
		return &apiError{code: "UnknownOperationException"}
	}
	c.scope = scope{c.h.opts.Account, c.h.opts.Region}
	if err := c.authenticate(); err != nil {
		return err
	}
	if !parsed {
		if err := c.decode(); err != nil {
			return err
		}
	}
	if closed {
		return unavailable()
	}
	return c.run()
}

// run does what was asked for, once it is known to be well formed.
func (c *call) run() error {
	if err := c.inject(); err != nil {
		return err
	}
	if err := c.h.rates.admit(c); err != nil {
		return err
	}
	err := c.op.run(c)
	if err == nil && c.loseAnswer {
		abort()
	}
	return err
}

func (c *call) source() source {
	if c.cbor {
		return &cborSource{data: c.body}
	}
	return &jsonSource{data: c.body}
}

// decode reads the members and checks them against the model.
func (c *call) decode() error {
	src := c.source()
	if _, err := src.value(); err != nil {
		return err
	}
	in, err := object(src, c.op.input, 0)
	if err != nil {
		return err
	}
	c.in = in
	return validate(c.op.input, in)
}

// reply sends what was encoded.
func (c *call) reply(status int) {
	h := c.w.Header()
	media := typeJSON
	if c.cbor {
		media = typeCBOR
	}
	h["Content-Type"] = []string{media}
	h["Content-Length"] = []string{strconv.Itoa(len(c.out.buf))}
	if len(c.out.buf) > largeAnswer {
		// A client that does not read would hold the memory for ever. Not every
		// ResponseWriter has deadlines; then the server's own hold.
		rc := http.NewResponseController(c.w)
		_ = rc.SetWriteDeadline(time.Now().Add(c.h.opts.BodyTimeout))
		defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(c.out.buf) // the client is gone then
}

// largeAnswer is one that may not fit into the buffers of a connection.
const largeAnswer = 16 << 10

func (c *call) fail(e *apiError) {
	c.out = encoder{cbor: c.cbor, buf: c.out.buf[:0]}
	c.out.open()
	c.out.strField("__type", e.code)
	switch {
	case e.message == "":
	case e.capital:
		c.out.strField("Message", e.message)
	default:
		c.out.strField("message", e.message)
	}
	c.out.close()
	c.reply(e.statusCode())
}
