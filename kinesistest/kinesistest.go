// Package kinesistest gives a test a Kinesis endpoint in one call: a server on
// the loopback interface, or on a network in memory, over a database in
// memory. It needs neither AWS nor its SDK, and starts in well under five
// milliseconds.
//
//	srv := kinesistest.NewServer(t, nil)
//	// point any Kinesis client at srv.URL, and look into srv.DB
package kinesistest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

// Options say what is served. The zero value of each field means its default.
type Options struct {
	// API are the options of the endpoint. Defaults to none, with the admin
	// paths turned on.
	API *kinesisapi.Options
	// DB is served instead of a new database in memory; it stays the caller's
	// to close, after the test. Defaults to none.
	DB *stream.DB
	// Streams are created before NewServer returns, with so many shards.
	// Defaults to none.
	Streams map[string]int
	// TLS serves https with a certificate that Client trusts. Defaults to off.
	TLS bool
	// Protocols are those that Client speaks. Defaults to HTTP/1.1, and HTTP/2
	// where the server is asked for TLS.
	Protocols *http.Protocols
	// InMemory serves on a network in memory, so that only Client reaches the
	// endpoint. It works in a testing/synctest bubble, with its clock.
	// Defaults to off.
	InMemory bool
}

// Server is a running endpoint. It is closed when the test ends.
type Server struct {
	// URL is where the endpoint is, such as "http://127.0.0.1:40000".
	URL string
	// DB is the database that it serves. Streams that are created here are
	// seen through the endpoint in every account and region.
	DB *stream.DB
	// Handler injects faults and moves the clock.
	Handler *kinesisapi.Handler

	client *http.Client
	close  func()
	once   sync.Once
}

// NewServer starts an endpoint for a test and closes it in its Cleanup. Opts
// may be nil. It fails the test where it cannot start. Servers are independent
// of each other, so that tests that have one each can run in parallel.
func NewServer(tb testing.TB, opts *Options) *Server {
	tb.Helper()
	var o Options
	if opts != nil {
		o = *opts
	}
	api := kinesisapi.Options{Admin: true}
	if o.API != nil {
		api = *o.API
	}
	s := &Server{DB: o.DB}
	if s.DB == nil {
		db, err := stream.Open("", &stream.Options{InMemory: true})
		if err != nil {
			tb.Fatalf("kinesistest: %v", err)
		}
		s.DB = db
		tb.Cleanup(func() { _ = db.Close() }) // in memory, nothing is left to fail
	}
	var err error
	if s.Handler, err = kinesisapi.NewHandler(s.DB, &api); err != nil {
		tb.Fatalf("kinesistest: %v", err)
	}
	for name, shards := range o.Streams {
		if _, err := s.DB.Create(tb.Context(), name, stream.Config{Shards: shards}); err != nil {
			tb.Fatalf("kinesistest: %v", err)
		}
	}
	s.start(&o)
	tb.Cleanup(s.Close)
	return s
}

func (s *Server) start(o *Options) {
	ts := &httptest.Server{Config: s.Handler.Server(), EnableHTTP2: true}
	var pipes *pipeListener
	if o.InMemory {
		pipes = newPipeListener()
		ts.Listener = pipes
	} else {
		ts.Listener = httptest.NewUnstartedServer(nil).Listener
	}
	if o.TLS {
		ts.StartTLS()
	} else {
		ts.Start()
	}
	s.URL, s.client = ts.URL, ts.Client()
	if t, ok := s.client.Transport.(*http.Transport); ok {
		if pipes != nil {
			t.DialContext = pipes.dial
		}
		if o.Protocols != nil {
			t.Protocols, t.ForceAttemptHTTP2 = o.Protocols, false
			if t.TLSClientConfig != nil {
				t.TLSClientConfig.NextProtos = nil // by the protocols
			}
		}
		s.client.Transport = &steady{t}
	}
	s.close = func() {
		_ = s.Handler.Close() // ends subscriptions; it cannot fail
		ts.CloseClientConnections()
		ts.Close()
	}
}

// steady gives each request a body of its own. The AWS SDK for Go closes the
// body of a request as soon as the answer begins; if that is sooner than the
// connection has seen the body's end, which happens where the server is quick,
// the connection breaks, and with it the answer (aws-sdk-go-v2 issues 1825 and
// 2737).
type steady struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (s *steady) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return s.Transport.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	err = errors.Join(err, r.Body.Close())
	if err != nil {
		return nil, err
	}
	own := r.Clone(r.Context())
	own.Body, own.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return s.Transport.RoundTrip(own)
}

// Client returns a client that reaches the endpoint, also where it is on a
// network in memory or has a certificate of its own. Give it to the AWS SDK
// for Go: without it about two in a thousand of its calls to a server this
// near fail on the client's side.
func (s *Server) Client() *http.Client { return s.client }

// Close ends the endpoint, and leaves the database open until the end of the
// test. It is idempotent.
func (s *Server) Close() { s.once.Do(s.close) }

// pipeListener is a network in memory.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, shardlog.ContextError(ctx)
	}
}

// pipeAddr is a reserved name, which the certificates of httptest are good for.
type pipeAddr struct{}

// Network implements net.Addr.
func (pipeAddr) Network() string { return "pipe" }

// String implements net.Addr.
func (pipeAddr) String() string { return "kinesis.example.com:80" }
