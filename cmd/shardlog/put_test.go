package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/kinesistest"
	"github.com/shardlog/shardlog/stream"
)

// streamOf runs a test on a stream "s" with a record limit, at an endpoint and in
// a directory.
func streamOf(t *testing.T, most int, f func(t *testing.T, target ...string)) {
	t.Run("endpoint", func(t *testing.T) {
		srv := kinesistest.NewServer(t, nil)
		_, err := srv.DB.Create(t.Context(), "s", stream.Config{MaxRecordSize: most})
		require.NoError(t, err)
		f(t, "-endpoint", srv.URL)
	})
	t.Run("dir", func(t *testing.T) {
		dir := t.TempDir()
		db, err := stream.Open(dir, nil)
		require.NoError(t, err)
		_, err = db.Create(t.Context(), "s", stream.Config{MaxRecordSize: most})
		require.NoError(t, err)
		require.NoError(t, db.Close())
		f(t, "-dir", dir)
	})
}

const mib = 1 << 20

// Lines of any sizes that the stream takes are put, however they follow each
// other. A record as large as the limit is among them.
func TestPutLinesOfAnySize(t *testing.T) {
	key := strings.Repeat("<", 10) // which JSON writes as 60 bytes
	streamOf(t, 10*mib, func(t *testing.T, target ...string) {
		var in strings.Builder
		sizes := []int{3 * mib, 8 * mib, 0, 10*mib - len(key), 10*mib - len(key), 1, 4*mib - len(key), 4 * mib}
		for i, n := range sizes {
			in.WriteString(strings.Repeat(string(rune('a'+i)), n) + "\n")
		}
		out := mustCLI(t, in.String(), append([]string{"put", "s", "-key", key}, target...)...)
		require.Equal(t, fmt.Sprintf("%d records\n", len(sizes)), out)
		require.True(t, in.String() == mustCLI(t, "", append([]string{"tail", "s"}, target...)...))
	})
	streamOf(t, mib, func(t *testing.T, target ...string) {
		in := strings.Repeat(strings.Repeat("x", mib-len(key))+"\n", 12)
		require.Equal(t, "12 records\n", mustCLI(t, in, append([]string{"put", "s", "-key", key}, target...)...))
	})
}

// A line that is too large ends the put. The lines before it are stored, and the
// message has the line, the limit and their number.
func TestPutOfALineThatIsTooLarge(t *testing.T) {
	streamOf(t, mib, func(t *testing.T, target ...string) {
		for _, c := range []struct {
			size int
			says string
		}{{mib, "line 3 has 1048577 bytes with its partition key"}, {mib + 1, "line 3 is longer"}, {25 * mib, "line 3 is longer"}} {
			code, out, errs := cli(t, "one\ntwo\n"+strings.Repeat("x", c.size)+"\nfour\n", append([]string{"put", "s", "-key", "k"}, target...)...)
			require.Equal(t, exitFail, code)
			require.Empty(t, out)
			require.Equal(t, "shardlog: "+c.says+": a record of stream s has at most 1048576 bytes of data and partition key; 2 records were stored\n", errs)
		}
		require.Equal(t, strings.Repeat("one\ntwo\n", 3), mustCLI(t, "", append([]string{"tail", "s"}, target...)...))
		code, _, errs := cli(t, "", append([]string{"put", "s", strings.Repeat("x", mib), "-key", "k"}, target...)...)
		require.Equal(t, exitFail, code)
		require.Contains(t, errs, "DATA has 1048577 bytes")
	})
}

// TestRequestsAreBounded puts lines of random sizes and looks at the requests:
// 500 records, and 10 MiB of data, partition keys and explicit hash keys, or one
// record.
func TestRequestsAreBounded(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	srv := kinesistest.NewServer(t, nil)
	_, err := srv.DB.Create(t.Context(), "s", stream.Config{MaxRecordSize: 10 * mib})
	require.NoError(t, err)
	requests := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutRecords") {
			var in struct {
				Records []struct {
					Data                          []byte
					PartitionKey, ExplicitHashKey string
				}
			}
			if err := json.Unmarshal(body, &in); err != nil {
				t.Error(err)
			}
			size := 0
			for _, rec := range in.Records {
				size += len(rec.Data) + len(rec.PartitionKey) + len(rec.ExplicitHashKey)
			}
			if n := len(in.Records); n == 0 || n > shardlog.MaxRequestRecords || n > 1 && size > shardlog.MaxRequestBytes {
				t.Errorf("a request of %d records and %d bytes", n, size)
			}
			requests++
		}
		srv.Handler.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	var in strings.Builder
	lines := 0
	for in.Len() < 60*mib {
		n := rng.IntN(100)
		switch rng.IntN(40) {
		case 0:
			n = rng.IntN(9 * mib)
		case 1, 2:
			n = rng.IntN(mib)
		}
		in.WriteString(strings.Repeat("y", n) + "\n")
		lines++
	}
	in.WriteString(strings.Repeat("\n", 1200))
	lines += 1200
	key := strings.Repeat("\U0001F600", shardlog.MaxPartitionKeyLength) // 1 KiB
	out := mustCLI(t, in.String(), "put", "s", "-key", key, "-hash-key", shardlog.MaxHashKey.String(), "-endpoint", proxy.URL)
	require.Equal(t, fmt.Sprintf("%d records\n", lines), out)
	require.Greater(t, requests, 6)
}

// What cannot be asked for, because the endpoint does not say or the user may
// not, is not needed to put; a stream that is not there is found before anything
// is read.
func TestPutWithoutDescriptions(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	proxy := refusing(t, srv, "DescribeStreamSummary")
	require.Equal(t, "2 records\n", mustCLI(t, "a\nb\n", "put", "s", "-endpoint", proxy))
	code, _, errs := cli(t, "", "put", "none", "-endpoint", srv.URL)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "ResourceNotFoundException")
	proxy = refusing(t, srv, "PutRecords")
	code, _, errs = cli(t, "a\n", "put", "s", "-endpoint", proxy)
	require.Equal(t, exitFail, code)
	require.Equal(t, "shardlog: AccessDeniedException: not you; 0 records were stored\n", errs)
}

// Without an answer it is not known whether the last request was stored.
func TestPutWithoutAnAnswer(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutRecords") {
			srv.Handler.ServeHTTP(w, r)
			return
		}
		srv.Handler.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
	defer proxy.Close()
	code, _, errs := cli(t, "a\n", "put", "s", "-endpoint", proxy.URL)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "EOF; at least 0 records were stored")
	require.Equal(t, "a\n", mustCLI(t, "", "tail", "s", "-endpoint", srv.URL))
}

// A request that was sent is waited for after an interrupt, so that the number of
// stored records is known; no other one follows.
func TestInterruptedDuringARequest(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	ctx, cancel := context.WithCancelCause(t.Context())
	requests := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutRecords") {
			requests++
			cancel(&interrupted{syscall.SIGINT})
		}
		srv.Handler.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	var errs bytes.Buffer
	in := strings.NewReader(strings.Repeat("x\n", 1200))
	require.Equal(t, 130, run(&env{ctx: ctx, stdin: in, stdout: io.Discard, stderr: &errs}, []string{"put", "s", "-endpoint", proxy.URL}))
	require.Equal(t, "shardlog: interrupted; 500 records were stored\n", errs.String())
	require.Equal(t, 1, requests)
	require.Equal(t, 500, strings.Count(mustCLI(t, "", "tail", "s", "-endpoint", srv.URL), "\n"))
}

// refusing returns the URL of an endpoint that refuses some operations.
func refusing(t *testing.T, srv *kinesistest.Server, ops ...string) string {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, op := range ops {
			if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "."+op) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","message":"not you"}`)
				return
			}
		}
		srv.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}
