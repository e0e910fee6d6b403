package awstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/shardlog/shardlog"
)

// ownBody gives each request a body of its own. The AWS SDK for Go closes the
// body of a request as soon as the answer begins. If the connection has not seen
// the body's end by then, which happens with a server that is this quick, the
// connection breaks, and with it the answer. The endpoint waits a little before
// it answers that SDK, which makes it rare; a test wants it never, and need not
// wait: the User-Agent is therefore another one.
type ownBody struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (s *ownBody) RoundTrip(r *http.Request) (*http.Response, error) {
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
	own.Header.Set("User-Agent", "shardlog-awstest")
	return s.Transport.RoundTrip(own)
}

// pipeListener is a network in memory. Its addresses are "pipe", which the admin
// paths take for this machine.
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
