// Package awstest gives a test every service of awsapi in one call: a server on
// the loopback interface, or on a network in memory, over a database in memory.
// It needs neither AWS nor its SDK.
//
//	srv := awstest.NewServer(t, nil)
//	// point any AWS client at srv.URL
//
// Package kinesistest is the same for Kinesis alone, with its faults.
package awstest

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/awsapi/stsapi"
	"github.com/shardlog/shardlog/stream"
)

// Network is how an endpoint is reached. The zero value is HTTP/1.1 on the
// loopback interface.
type Network struct {
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

// Options say what is served. The zero value of each field means its default.
type Options struct {
	// API are the options of the endpoint. Defaults to none, with the admin
	// paths turned on.
	API *awsapi.Options
	// Kinesis are those of Kinesis. Defaults to none.
	Kinesis *kinesisapi.Options
	// DB is served instead of a new database in memory; it stays the caller's
	// to close, after the test. Defaults to none.
	DB *stream.DB
	// Network is how the endpoint is reached.
	Network Network
}

// Server is a running endpoint. It is closed when the test ends.
type Server struct {
	// URL is where the endpoint is, such as "http://127.0.0.1:40000".
	URL string
	// DB is the database that NewServer serves; nil for Serve.
	DB *stream.DB
	// Endpoint injects faults and moves the clock.
	Endpoint *awsapi.Endpoint

	client *http.Client
	close  func()
	once   sync.Once
}

// NewServer starts an endpoint with every service for a test and closes it in
// its Cleanup. Opts may be nil. It fails the test where it cannot start.
// Servers are independent of each other, so that tests that have one each can
// run in parallel.
func NewServer(tb testing.TB, opts *Options) *Server {
	tb.Helper()
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.API == nil {
		o.API = &awsapi.Options{Admin: true}
	}
	if o.DB == nil {
		o.DB = OpenDB(tb)
	}
	kinesis, err := kinesisapi.Service(o.DB, o.Kinesis)
	if err != nil {
		tb.Fatalf("awstest: %v", err)
	}
	e, err := awsapi.New(o.API, kinesis, stsapi.Service())
	if err != nil {
		tb.Fatalf("awstest: %v", err)
	}
	s := Serve(tb, e, o.Network)
	s.DB = o.DB
	return s
}

// OpenDB opens a database in memory for a test, and closes it in its Cleanup.
func OpenDB(tb testing.TB) *stream.DB {
	tb.Helper()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		tb.Fatalf("awstest: %v", err)
	}
	tb.Cleanup(func() { _ = db.Close() }) // in memory, nothing is left to fail
	return db
}

// Serve starts a server for an endpoint with the services of your choice, and
// closes both in the test's Cleanup.
func Serve(tb testing.TB, e *awsapi.Endpoint, n Network) *Server {
	tb.Helper()
	ts := &httptest.Server{Config: e.Server(), EnableHTTP2: true}
	var pipes *pipeListener
	if n.InMemory {
		pipes = newPipeListener()
		ts.Listener = pipes
	} else {
		ts.Listener = httptest.NewUnstartedServer(nil).Listener
	}
	if n.TLS {
		ts.StartTLS()
	} else {
		ts.Start()
	}
	s := &Server{URL: ts.URL, Endpoint: e, client: ts.Client()}
	if t, ok := s.client.Transport.(*http.Transport); ok {
		if pipes != nil {
			t.DialContext = pipes.dial
		}
		if n.Protocols != nil {
			t.Protocols, t.ForceAttemptHTTP2 = n.Protocols, false
			if t.TLSClientConfig != nil {
				t.TLSClientConfig.NextProtos = nil // by the protocols
			}
		}
		s.client.Transport = &ownBody{t}
	}
	s.close = func() {
		_ = e.Close() // ends subscriptions; it cannot fail
		ts.CloseClientConnections()
		ts.Close()
	}
	tb.Cleanup(s.Close)
	return s
}

// Client returns a client that reaches the endpoint, also where it is on a
// network in memory or has a certificate of its own. Give it to the AWS SDK
// for Go: without it large requests wait some milliseconds for their answers,
// because those could come too early for that SDK; see docs/COMPATIBILITY.md.
func (s *Server) Client() *http.Client { return s.client }

// Close ends the endpoint, and leaves the database open until the end of the
// test. It is idempotent.
func (s *Server) Close() { s.once.Do(s.close) }
