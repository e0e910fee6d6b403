package kinesisapi

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

// Server returns a server for the handler that speaks HTTP/1.1 and HTTP/2, the
// latter also without TLS, and that bounds headers, the time that they take,
// and idle connections. Its Shutdown ends the subscriptions and closes the
// handler; its Close does not, and the handler is to be closed then. It is
// not started, and the caller may change it.
func (h *Handler) Server() *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		WriteTimeout:      answerTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Protocols:         &http.Protocols{},
		ErrorLog:          log.New(logWriter{h}, "", 0),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.RegisterOnShutdown(func() { _ = h.Close() }) // it cannot fail
	return s
}

// logWriter hands what net/http logs to the handler's logger.
type logWriter struct{ h *Handler }

// Write implements io.Writer.
func (w logWriter) Write(p []byte) (int, error) {
	if w.h.opts.Logger != nil {
		w.h.opts.Logger.Debug("kinesisapi: " + string(p))
	}
	return len(p), nil
}
