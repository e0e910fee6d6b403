package awsapi

import (
	"log"
	"net/http"
	"time"
)

// Bounds of a Server. SDKs send headers of some 2 KiB.
const (
	maxHeaderBytes    = 64 << 10
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 3 * time.Minute
	// answerTimeout is for clients that send requests and do not read answers;
	// subscriptions have deadlines of their own.
	answerTimeout = 10 * time.Minute
	maxStreams    = 1000 // of one HTTP/2 connection
)

// Server returns a server for the endpoint that speaks HTTP/1.1 and HTTP/2, the
// latter also without TLS, and that bounds headers, the time that they take,
// and idle connections. Its Shutdown closes the endpoint, which ends
// the requests that wait; its Close does not, and the endpoint is to be closed
// then. It is not started, and the caller may change it.
func (e *Endpoint) Server() *http.Server {
	s := &http.Server{
		Handler:           e,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		WriteTimeout:      answerTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Protocols:         &http.Protocols{},
		ErrorLog:          log.New(logWriter{e}, "", 0),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.RegisterOnShutdown(func() { _ = e.Close() }) // it cannot fail
	return s
}

// logWriter hands what net/http logs to the endpoint's logger.
type logWriter struct{ e *Endpoint }

// Write implements io.Writer.
func (w logWriter) Write(p []byte) (int, error) {
	if w.e.opts.Logger != nil {
		w.e.opts.Logger.Debug("awsapi: " + string(p))
	}
	return len(p), nil
}
