package kinesisapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serve starts a server for the endpoint and returns its address.
func (e *endpoint) serve() string {
	e.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(e.t, err)
	srv := e.h.Server()
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	e.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(e.t, srv.Shutdown(ctx))
		require.ErrorIs(e.t, <-done, http.ErrServerClosed)
	})
	return l.Addr().String()
}

var rawHead = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: " + typeJSON + "\r\nX-Amz-Target: " + targetPrefix + "ListStreams\r\nX-Amz-Date: x\r\nAuthorization: " + testAuth + "\r\n"

// talk sends bytes and returns the status of the answer.
func talk(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestSlowAndStrangeClients(t *testing.T) {
	e := newEndpoint(t, &Options{BodyTimeout: 50 * time.Millisecond})
	addr := e.serve()
	require.Equal(t, "HTTP/1.1 200 OK", talk(t, dial(t, addr), rawHead+"Content-Length: 2\r\n\r\n{}"))
	require.Equal(t, "HTTP/1.1 400 Bad Request", talk(t, dial(t, addr), rawHead+"Content-Length: 2\r\n\r\n{"), "a body that does not come")
	require.Equal(t, "HTTP/1.1 413 Request Entity Too Large", talk(t, dial(t, addr), rawHead+"Content-Length: 99999999999\r\n\r\n{"))
	require.Contains(t, talk(t, dial(t, addr), "POST / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 2*maxHeaderBytes)+"\r\n\r\n"), "431")
}

// A flood of connections that send half a body each holds no more memory than
// the budget allows, and those that are whole are answered.
func TestFloodOfConnections(t *testing.T) {
	e := newEndpoint(t, &Options{MaxBodyBytes: 64 << 10, MaxBodiesBytes: 256 << 10, BodyTimeout: 100 * time.Millisecond})
	addr := e.serve()
	for range 200 {
		_, err := fmt.Fprintf(dial(t, addr), "%sContent-Length: %d\r\n\r\n{", rawHead, 64<<10)
		require.NoError(t, err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			res, err := http.Post("http://"+addr, typeJSON, strings.NewReader("{}"))
			if err == nil {
				_ = res.Body.Close()
			}
			if err != nil || res.StatusCode != 400 { // without a signature
				t.Errorf("%v %v", res, err)
			}
		})
	}
	wg.Wait()
	http.DefaultClient.CloseIdleConnections()
}

func TestShutdownEndsSubscriptions(t *testing.T) {
	for name, set := range map[string]func(*http.Protocols, bool){"HTTP/1.1": (*http.Protocols).SetHTTP1, "HTTP/2 without TLS": (*http.Protocols).SetUnencryptedHTTP2} {
		t.Run(name, func(t *testing.T) {
			p := new(http.Protocols)
			set(p, true)
			shutdownEndsSubscriptions(t, p)
		})
	}
}

func shutdownEndsSubscriptions(t *testing.T, p *http.Protocols) {
	client := &http.Client{Transport: &http.Transport{Protocols: p}}
	defer client.CloseIdleConnections()
	e := newEndpoint(t, nil)
	e.create("s", 1)
	arn := e.register("s", "c")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := e.h.Server()
	go func() { _ = srv.Serve(l) }()
	r, err := http.NewRequest("POST", "http://"+l.Addr().String(), strings.NewReader(`{"ConsumerARN":"`+arn+`","ShardId":"0","StartingPosition":{"Type":"LATEST"}}`))
	require.NoError(t, err)
	for k, v := range map[string]string{"Content-Type": typeJSON, "X-Amz-Target": targetPrefix + "SubscribeToShard", "X-Amz-Date": "x", "Authorization": testAuth} {
		r.Header.Set(k, v)
	}
	res, err := client.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	ev, err := readFrame(res.Body)
	require.NoError(t, err)
	require.Equal(t, "initial-response", ev.headers[":event-type"])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, srv.Shutdown(ctx))
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err, "the stream ends in order")
}
