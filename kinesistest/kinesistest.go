// Package kinesistest gives a test a Kinesis endpoint in one call: a server on
// the loopback interface, or on a network in memory, over a database in
// memory. It needs neither AWS nor its SDK, and starts in well under five
// milliseconds.
//
//	srv := kinesistest.NewServer(t, nil)
//	// point any Kinesis client at srv.URL, and look into srv.DB
package kinesistest

import (
	"net/http"
	"testing"

	"github.com/shardlog/shardlog/awsapi/awstest"
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

	server *awstest.Server
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
		s.DB = awstest.OpenDB(tb)
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
	s.server = awstest.Serve(tb, s.Handler.Endpoint, awstest.Network{TLS: o.TLS, Protocols: o.Protocols, InMemory: o.InMemory})
	s.URL = s.server.URL
	return s
}

// Client returns a client that reaches the endpoint, also where it is on a
// network in memory or has a certificate of its own. Give it to the AWS SDK
// for Go: without it large requests wait some milliseconds for their answers,
// because those could come too early for that SDK; see docs/COMPATIBILITY.md.
func (s *Server) Client() *http.Client { return s.server.Client() }

// Close ends the endpoint, and leaves the database open until the end of the
// test. It is idempotent.
func (s *Server) Close() { s.server.Close() }
