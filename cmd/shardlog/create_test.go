package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/kinesistest"
)

// A stream that was created and cannot be set up is deleted again.
func TestCreateIsUndone(t *testing.T) {
	srv := kinesistest.NewServer(t, nil)
	create := []string{"stream", "create", "s", "-retention", "48", "-endpoint"}
	code, out, errs := cli(t, "", append(create, refusing(t, srv, "IncreaseStreamRetentionPeriod"))...)
	require.Equal(t, exitFail, code)
	require.Empty(t, out)
	require.Equal(t, "shardlog: setting the retention to 48 hours: AccessDeniedException: not you; stream s was deleted again\n", errs)
	require.Empty(t, mustCLI(t, "", "stream", "list", "-endpoint", srv.URL))

	code, _, errs = cli(t, "", append(create, refusing(t, srv, "IncreaseStreamRetentionPeriod", "DeleteStream"))...)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "stream s was created, has a retention of 24 hours, and could not be deleted again: AccessDeniedException: not you")

	// One that was there is no work of this command.
	code, _, errs = cli(t, "", append(create, srv.URL)...)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "ResourceInUseException")
	require.Equal(t, "s\n", mustCLI(t, "", "stream", "list", "-endpoint", srv.URL))
}

// An interrupt between the calls deletes nothing, and what was done is said.
func TestInterruptedCreate(t *testing.T) {
	srv := kinesistest.NewServer(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	n := creation{name: "s", shards: 1}
	c := &client{http: &http.Client{Transport: afterCall(func(r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".CreateStream") {
			cancel(&interrupted{syscall.SIGINT})
		}
	})}, url: srv.URL, region: "us-east-1"}
	_, err := n.create(ctx, c)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "stream s was created", partOf(t, err))

	ctx, cancel = context.WithCancelCause(t.Context())
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".IncreaseStreamRetentionPeriod") {
			_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client leave
			cancel(&interrupted{syscall.SIGINT})
			<-r.Context().Done()
			return
		}
		srv.Handler.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	var errs bytes.Buffer
	require.Equal(t, 130, run(&env{ctx: ctx, stdout: io.Discard, stderr: &errs}, []string{"stream", "create", "t", "-retention", "48", "-endpoint", proxy.URL}))
	require.Equal(t, "shardlog: interrupted; stream t was created; its retention was 24 hours, and it is not known whether that was changed\n", errs.String())
	require.Equal(t, "s\nt\n", mustCLI(t, "", "stream", "list", "-endpoint", srv.URL))
}

// partOf returns what an error says was done.
func partOf(t *testing.T, err error) string {
	t.Helper()
	var p *partial
	require.ErrorAs(t, err, &p)
	return p.done
}

// afterCall is a transport that calls a function when an answer was read.
type afterCall func(*http.Request)

// RoundTrip implements http.RoundTripper.
func (f afterCall) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		var b []byte
		b, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(b))
	}
	f(r)
	return res, err
}

func TestRetentionOfCreatedStreams(t *testing.T) {
	srv := kinesistest.NewServer(t, nil)
	for _, hours := range []string{"24", "25", "8760"} {
		mustCLI(t, "", "stream", "create", "s"+hours, "-retention", hours, "-endpoint", srv.URL)
		require.Regexp(t, `retention +`+hours+` h`, mustCLI(t, "", "stream", "describe", "s"+hours, "-endpoint", srv.URL))
	}
}

// A reshard that was begun is reported, whatever comes after it.
func TestReshardThatWasBegun(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 2}})
	proxy := refusing(t, srv, "DescribeStreamSummary")
	code, _, errs := cli(t, "", "stream", "split", "s", "0", "-endpoint", proxy)
	require.Equal(t, exitFail, code)
	require.Equal(t, "shardlog: AccessDeniedException: not you; the split was begun\n", errs)
	code, _, errs = cli(t, "", "stream", "merge", "s", "2", "3", "-endpoint", proxy)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "the merge was begun")
}

// A change without an answer may have been made, and one that reached nobody has
// not.
func TestChangesWithoutAnAnswer(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 2}})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, op := range []string{"CreateStream", "SplitShard", "MergeShards", "DeleteStream"} {
			if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "."+op) {
				panic(http.ErrAbortHandler)
			}
		}
		srv.Handler.ServeHTTP(w, r)
	}))
	for line, says := range map[string]string{
		"create t": "stream t was created", "split s 0": "the split was begun", "merge s 0 1": "the merge was begun", "delete s": "stream s was deleted",
	} {
		code, out, errs := cli(t, "", append(strings.Fields("stream "+line), "-endpoint", proxy.URL)...)
		require.Equal(t, exitFail, code)
		require.Empty(t, out)
		require.Contains(t, errs, "EOF; it is not known whether "+says)
	}
	proxy.Close()
	code, _, errs := cli(t, "", "stream", "create", "t", "-endpoint", proxy.URL)
	require.Equal(t, exitFail, code)
	require.NotContains(t, errs, "not known")
	code, _, errs = cli(t, "x\n", "put", "s", "-endpoint", proxy.URL)
	require.Equal(t, exitFail, code)
	require.NotContains(t, errs, "at least")
}

// An attempt that was carried out and ended with a server error is recognized when
// the next one finds its work done.
func TestAttemptsThatWereCarriedOut(t *testing.T) {
	srv := kinesistest.NewServer(t, nil)
	var lose sync.Map // operations whose next answer is lost
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		if _, ok := lose.LoadAndDelete(op); ok {
			srv.Handler.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"__type":"InternalFailureException"}`)
			return
		}
		srv.Handler.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	losing := func(line string, ops ...string) (code int, out, errs string) {
		for _, op := range ops {
			lose.Store(op, true)
		}
		return cli(t, "", append(strings.Fields("stream "+line), "-endpoint", proxy.URL)...)
	}

	code, out, errs := losing("create s -shards 2 -retention 48", "CreateStream", "IncreaseStreamRetentionPeriod")
	require.Equal(t, exitOK, code, errs)
	require.Equal(t, "created s with 2 shards\n", out)
	require.Regexp(t, `retention +48 h`, mustCLI(t, "", "stream", "describe", "s", "-endpoint", srv.URL))

	// One that was there before is none of this command.
	code, _, errs = losing("create s", "CreateStream")
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "ResourceInUseException")

	// Somebody else may have begun it.
	code, _, errs = losing("split s 0", "SplitShard")
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "; it is not known whether the split was begun")

	code, out, errs = losing("delete s", "DeleteStream")
	require.Equal(t, exitOK, code, errs)
	require.Equal(t, "deleted s\n", out)
	code, _, errs = losing("delete s")
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "ResourceNotFoundException")
}
