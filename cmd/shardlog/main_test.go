package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/kpl"
	"github.com/shardlog/shardlog/kinesistest"
	"github.com/shardlog/shardlog/stream"
)

// envMain makes the test binary behave as the command.
const envMain = "SHARDLOG_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(envMain) != "" {
		main()
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"} {
		os.Unsetenv(name)
	}
	os.Exit(m.Run())
}

// cli runs a command line in this process and returns its exit code and output.
func cli(t testing.TB, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(&env{ctx: t.Context(), stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs}, args)
	return code, out.String(), errs.String()
}

func mustCLI(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	code, out, errs := cli(t, stdin, args...)
	require.Equal(t, exitOK, code, "%v: %s", args, errs)
	require.Empty(t, errs)
	return out
}

// targets runs a test on an endpoint and on a directory.
func targets(t *testing.T, f func(t *testing.T, target ...string)) {
	t.Run("endpoint", func(t *testing.T) {
		f(t, "-endpoint", kinesistest.NewServer(t, nil).URL)
	})
	t.Run("dir", func(t *testing.T) {
		dir := t.TempDir()
		db, err := stream.Open(dir, nil)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		f(t, "-dir", dir)
	})
}

func TestCommands(t *testing.T) {
	targets(t, func(t *testing.T, target ...string) {
		do := func(stdin string, args ...string) string { return mustCLI(t, stdin, append(args, target...)...) }
		require.Equal(t, "created orders with 2 shards\n", do("", "stream", "create", "orders", "-shards", "2", "-retention", "48"))
		require.Equal(t, "orders\n", do("", "stream", "list"))
		require.Equal(t, "1 records\n", do("", "put", "orders", "one", "-key", "key"))
		require.Equal(t, "3 records\n", do("two\r\n\nthree", "put", "orders", "-key", "key"))
		require.Equal(t, "one\ntwo\n\nthree\n", do("", "tail", "orders"))
		require.Equal(t, "one\ntwo\n", do("", "tail", "orders", "-n", "2"))
		require.Regexp(t, `^\S+Z shardId-\d{12} \d{56} "key" one\n`, do("", "tail", "orders", "-l"))
		require.Equal(t, "orders has 3 open shards\n", do("", "stream", "split", "orders", "0"))
		require.Equal(t, "orders has 2 open shards\n", do("", "stream", "merge", "orders", "2", "3"))
		require.Equal(t, "1 records\n", do("", "put", "orders", "four", "-key", "key"))
		require.Equal(t, "one\ntwo\n\nthree\nfour\n", do("", "tail", "orders"), "parents before children")
		require.Empty(t, do("", "tail", "orders", "-from", "latest"))
		require.Equal(t, 5, strings.Count(do("", "tail", "orders", "-from", "1h"), "\n"))
		require.Empty(t, do("", "tail", "orders", "-from", "0s"))
		require.Equal(t, "four\n", do("", "tail", "orders", "-shard", "4"))
		text := do("", "stream", "describe", "orders")
		require.Regexp(t, `retention +48 h`, text)
		require.Regexp(t, `shardId-000000000004 +open +000000000002 000000000003 +0 - 170141183460469231731687303715884105727\n`, text)
		var s summary
		require.NoError(t, json.Unmarshal([]byte(do("", "stream", "describe", "orders", "-json")), &s))
		require.Len(t, s.Shards, 5)
		var l line
		require.NoError(t, json.Unmarshal([]byte(strings.SplitN(do("", "tail", "orders", "-json"), "\n", 2)[0]), &l))
		require.Equal(t, []string{"one", "key", "shardId-000000000000"}, []string{*l.Data, l.Key, l.Shard})
		var p placed
		require.NoError(t, json.Unmarshal([]byte(do("", "put", "orders", "x", "-hash-key", shardlog.MaxHashKey.String(), "-json")), &p))
		require.Equal(t, "shardId-000000000001", p.ShardID)
		require.Contains(t, do("", "stream", "list", "-json"), `"StreamStatus":"ACTIVE"`)
		require.Equal(t, "deleted orders\n", do("", "stream", "delete", "orders"))
		require.Empty(t, do("", "stream", "list"))
		code, _, errs := cli(t, "", append([]string{"stream", "describe", "orders"}, target...)...)
		require.Equal(t, exitFail, code)
		require.Equal(t, "shardlog: ResourceNotFoundException: Stream orders under account 000000000000 not found.\n", errs)
	})
}

func TestCommandLines(t *testing.T) {
	untouched := filepath.Join(t.TempDir(), "untouched")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "Usage:"},
		{[]string{"help"}, exitOK, ""},
		{[]string{"help", "serve"}, exitOK, ""},
		{[]string{"help", "nothing"}, exitUsage, `no command "nothing"`},
		{[]string{"nothing"}, exitUsage, `no command "nothing"`},
		{[]string{"stream"}, exitUsage, `no command "stream"`},
		{[]string{"stream", "create"}, exitUsage, "expected 1 arguments (NAME), got 0"},
		{[]string{"stream", "create", "a", "-x"}, exitUsage, "flag provided but not defined"},
		{[]string{"tail", "a", "-from", "whenever"}, exitUsage, `-from "whenever"`},
		{[]string{"put"}, exitUsage, "expected NAME"},
		{[]string{"serve", "-memory", "-dir", "x"}, exitUsage, "exclude each other"},
		{[]string{"serve", "-account", "1", "-dir", untouched}, exitUsage, "invalid Options.Account"},
		{[]string{"serve", "-shards-per-stream", "-1", "-dir", untouched}, exitUsage, "flag -shards-per-stream: must be a whole number from 1 to 10000"},
		{[]string{"serve", "-create-time", "-1s", "-dir", untouched}, exitUsage, "flag -create-time: must be a duration such as 500ms, from 0s to 24h0m0s"},
		{[]string{"serve", "-durability", "x", "-dir", untouched}, exitUsage, "must be always, interval or never"},
		{[]string{"serve", "-durability", "x"}, exitUsage, "must be always, interval or never"},
		{[]string{"serve", "-max-connections", "0", "-dir", untouched}, exitUsage, "flag -max-connections: must be a whole number from 1 to 1048576"},
		{[]string{"serve", "-drain", "-1s", "-dir", untouched}, exitUsage, "flag -drain: must be a duration such as 500ms, from 0s to 24h0m0s"},
		{[]string{"serve", "-key", "k.pem", "-dir", untouched}, exitUsage, "-cert and -key go together"},
		{[]string{"serve", "-cert", "c.pem", "-dir", untouched}, exitUsage, "-cert and -key go together"},
		{[]string{"serve", "-credentials", filepath.Join(untouched, "none"), "-dir", untouched}, exitFail, "no such file"},
		{[]string{"serve", "-addr", "127.0.0.1:99999"}, exitUsage, "flag -addr: must be HOST:PORT with a port from 0 to 65535"},
		{[]string{"serve", "-tls-addr", "127.0.0.1:-1"}, exitUsage, "flag -tls-addr: must be HOST:PORT"},
		{[]string{"serve", "-addr", "4567"}, exitUsage, "flag -addr: must be HOST:PORT"},
		{[]string{"serve", "-cert", "none.pem", "-key", "none.pem", "-addr", "127.0.0.1:0"}, exitFail, "none.pem"},
		{[]string{"stream", "list", "-dir", filepath.Join(t.TempDir(), "none")}, exitFail, "no such file"},
		{[]string{"completion", "csh"}, exitUsage, "no completion"},
	} {
		code, _, errs := cli(t, "", c.args...)
		require.Equal(t, c.code, code, c.args)
		require.Contains(t, errs, c.want)
	}
	require.NoDirExists(t, untouched, "made for a command line that is wrong")
	for _, c := range commands {
		code, out, _ := cli(t, "", append([]string{"help"}, strings.Fields(c.words)...)...)
		require.Equal(t, exitOK, code)
		require.Contains(t, out, "Usage: shardlog "+c.words)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out := mustCLI(t, "", "completion", shell)
		require.Regexp(t, "serve stream put tail( [a-z]+)* completion help", out)
		require.Contains(t, out, "create list describe split merge delete")
		require.Contains(t, out, "list show merge compare")
	}
}

// full is an output to which nothing can be written.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A command whose results are lost has failed.
func TestResultsThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	mustCLI(t, "", "stream", "create", "s", "-dir", dir)
	for _, line := range []string{
		"version", "help put", "completion bash", "bench list", "cost -rate 1 -size 1", "check " + dir, "stream list -dir " + dir,
		"stream describe s -dir " + dir, "put s x -dir " + dir, "tail s -l -dir " + dir, "serve -addr 127.0.0.1:0",
	} {
		var errs bytes.Buffer
		require.Equal(t, exitFail, run(&env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: full{}, stderr: &errs}, strings.Fields(line)), line)
		require.Contains(t, errs.String(), "no space left", line)
	}
}

// TestVersion checks that the version comes from the build and not from a text
// in the source; .ci/run checks it in a command that was installed.
func TestVersion(t *testing.T) {
	require.Regexp(t, `^shardlog \S+, log \S+, go1\.\S+ \w+/\w+\n$`, mustCLI(t, "", "version"))
	info := &debug.BuildInfo{Deps: []*debug.Module{
		{Path: "example.com/other", Version: "v9.0.0"}, {Path: logModule, Version: "v0.1.0"},
	}}
	require.Equal(t, "v0.1.0", moduleVersion(info, logModule))
	info.Deps[1].Replace = &debug.Module{Path: "../.."}
	require.Equal(t, "(devel)", known(moduleVersion(info, logModule)))
	require.Equal(t, "(devel)", known(moduleVersion(&debug.BuildInfo{}, logModule)))
}

func TestTailFollows(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	r, w := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan int)
	go func() {
		done <- run(&env{ctx: ctx, stdout: w, stderr: os.Stderr}, []string{"tail", "s", "-f", "-poll", "1ms", "-endpoint", srv.URL})
		_ = w.Close()
	}()
	lines := bufio.NewScanner(r)
	for i, args := range [][]string{nil, {"stream", "split", "s", "0"}, {"stream", "merge", "s", "1", "2"}} {
		if args != nil {
			mustCLI(t, "", append(args, "-endpoint", srv.URL)...)
		}
		mustCLI(t, fmt.Sprint("line ", i), "put", "s", "-endpoint", srv.URL)
		require.True(t, lines.Scan())
		require.Equal(t, fmt.Sprint("line ", i), lines.Text())
	}
	cancel(&interrupted{syscall.SIGINT})
	require.Equal(t, exitOK, <-done)
}

func TestPutTriesThrottledRecordsAgain(t *testing.T) {
	srv := kinesistest.NewServer(t, nil)
	_, err := srv.DB.Create(t.Context(), "s", stream.Config{Limits: stream.Limits{WriteRecords: 400}})
	require.NoError(t, err)
	var in strings.Builder
	for i := range 600 {
		fmt.Fprintln(&in, i)
	}
	require.Equal(t, "600 records\n", mustCLI(t, in.String(), "put", "s", "-endpoint", srv.URL))
	require.Equal(t, 600, strings.Count(mustCLI(t, "", "tail", "s", "-endpoint", srv.URL), "\n"))
}

func TestTailTakesAggregatesApart(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	st, err := srv.DB.Stream(t.Context(), "s")
	require.NoError(t, err)
	packed := append([]byte(kpl.Magic), "\n\x01a\n\x01b\x1a\x07\x08\x00\x1a\x03one\x1a\x07\x08\x01\x1a\x03two"...)
	sum := md5.Sum(packed[len(kpl.Magic):])
	packed = append(packed, sum[:]...)
	for _, data := range [][]byte{packed, packed[:len(packed)-1], {0xff}} {
		_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: data})
		require.NoError(t, err)
	}
	out := mustCLI(t, "", "tail", "s", "-json", "-endpoint", srv.URL)
	require.Contains(t, out, `"subSequence":0,`)
	require.Contains(t, out, `"key":"b","data":"two"`)
	require.Contains(t, out, `"key":"k","base64":"/w=="`)
	require.Equal(t, 4, strings.Count(out, "\n"))
	require.Equal(t, 3, strings.Count(mustCLI(t, "", "tail", "s", "-json", "-raw", "-endpoint", srv.URL), "\n"))
}

// User records of an aggregate that belong to another shard are left out, as in a
// consumer; where shards have no ranges of keys, none belongs to another.
func TestTailLeavesOutRecordsOfOtherShards(t *testing.T) {
	pack := func() []byte {
		var b []byte
		keys := []string{"low", "high", "both"} // with explicit hash keys 0, the largest, and none
		hashes := []string{"0", shardlog.MaxHashKey.String()}
		field := func(tag byte, v []byte) []byte { return append([]byte{tag, byte(len(v))}, v...) }
		for _, k := range keys {
			b = append(b, field(0x0a, []byte(k))...)
		}
		for _, h := range hashes {
			b = append(b, field(0x12, []byte(h))...)
		}
		for i, k := range keys {
			r := []byte{0x08, byte(i)}
			if i < len(hashes) {
				r = append(r, 0x10, byte(i))
			}
			b = append(b, field(0x1a, append(r, field(0x1a, []byte(k))...))...)
		}
		sum := md5.Sum(b)
		return append(append([]byte(kpl.Magic), b...), sum[:]...)
	}
	dir := t.TempDir()
	db, err := stream.Open(dir, nil)
	require.NoError(t, err)
	for name, cfg := range map[string]stream.Config{"md5": {Shards: 2}, "xxhash": {Shards: 2, Hash: stream.XXHash}} {
		st, err := db.Create(t.Context(), name, cfg)
		require.NoError(t, err)
		for _, at := range []shardlog.HashKey{shardlog.NewHashKey(0, 0), shardlog.MaxHashKey} {
			_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "k", ExplicitHashKey: at, Data: pack()})
			require.NoError(t, err)
		}
	}
	require.NoError(t, db.Close())
	lower := "low\n"
	if shardlog.KeyHash("both").Compare(shardlog.NewHashKey(1<<63, 0)) < 0 {
		lower += "both\n"
	}
	require.Equal(t, lower, mustCLI(t, "", "tail", "md5", "-shard", "0", "-dir", dir))
	all := mustCLI(t, "", "tail", "md5", "-dir", dir)
	require.ElementsMatch(t, []string{"low", "high", "both"}, strings.Fields(all), "each once")
	require.Equal(t, 2, strings.Count(mustCLI(t, "", "tail", "md5", "-raw", "-json", "-dir", dir), "\n"))
	require.Equal(t, 6, strings.Count(mustCLI(t, "", "tail", "xxhash", "-dir", dir), "\n"))
	out := mustCLI(t, "", "tail", "md5", "-shard", "1", "-json", "-dir", dir)
	require.Contains(t, out, `"subSequence":1,`, "the place in the aggregate counts those that are left out")
}

// Every line has one of the two members with data, also for an empty record.
func TestTailPrintsEmptyRecords(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	st, err := srv.DB.Stream(t.Context(), "s")
	require.NoError(t, err)
	_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "k"})
	require.NoError(t, err)
	out := mustCLI(t, "", "tail", "s", "-json", "-endpoint", srv.URL)
	require.Contains(t, out, `"key":"k","data":""}`)
}

// served is a process that runs "shardlog serve".
type served struct {
	t   *testing.T
	cmd *exec.Cmd
	url string
	out *bufio.Reader
}

func startServe(t *testing.T, args ...string) *served {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, append([]string{"serve", "-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), envMain+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := &served{t: t, cmd: cmd, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	first, err := s.out.ReadString('\n')
	require.NoError(t, err)
	m := regexp.MustCompile(`^listening on (https?://127\.0\.0\.1:\d+)\n$`).FindStringSubmatch(first)
	require.NotNil(t, m, first)
	s.url = m[1]
	return s
}

func TestServeEndsInOrder(t *testing.T) {
	for _, args := range [][]string{{"-memory"}, {"-dir", t.TempDir()}} {
		s := startServe(t, args...)
		mustCLI(t, "", "stream", "create", "s", "-endpoint", s.url)
		mustCLI(t, "", "put", "s", "data", "-endpoint", s.url)
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
		rest, err := io.ReadAll(s.out)
		require.NoError(t, err)
		require.Empty(t, string(rest))
		require.NoError(t, s.cmd.Wait())
		if args[0] == "-dir" {
			require.Equal(t, "data\n", mustCLI(t, "", append([]string{"tail", "s"}, args...)...))
		}
	}
}

func TestServeWithTLSAndCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"AKID":"secret"}`), 0o600))
	s := startServe(t, "-credentials", file)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	mustCLI(t, "", "stream", "create", "s", "-endpoint", s.url)
	t.Setenv("AWS_SESSION_TOKEN", "token")
	_, _, errs := cli(t, "", "stream", "list", "-endpoint", s.url)
	require.Contains(t, errs, "UnrecognizedClientException", "the keys of the file are not those of sessions")
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	_, _, errs = cli(t, "", "stream", "list", "-endpoint", s.url)
	require.Contains(t, errs, "InvalidSignatureException")
	require.NoError(t, os.WriteFile(file, []byte(`[]`), 0o600))
	code, _, _ := cli(t, "", "serve", "-credentials", file)
	require.Equal(t, exitFail, code)
	require.Contains(t, startServe(t, "-tls").url, "https://")
}

// TestServeAnswersPagesThatAreAllowed asks as a page in a browser would.
func TestServeAnswersPagesThatAreAllowed(t *testing.T) {
	s := startServe(t, "-allow-origin", "http://localhost:3000", "-allow-origin", "https://app.example")
	for origin, want := range map[string]int{"http://localhost:3000": 200, "https://app.example": 200, "http://localhost:3001": 403} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.url, nil)
		require.NoError(t, err)
		r.Header.Set("Origin", origin)
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, origin)
	}
	code, _, _ := cli(t, "", "serve", "-allow-origin", "localhost:3000")
	require.Equal(t, exitUsage, code)
}

func TestConnectionsAreBounded(t *testing.T) {
	s := startServe(t, "-max-connections", "1")
	first := &http.Client{Transport: &http.Transport{}}
	res, err := first.Get(s.url + "/_shardlog/health")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	second := make(chan error, 1)
	go func() {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := c.Get(s.url + "/_shardlog/health")
		if err == nil {
			err = res.Body.Close()
		}
		second <- err
	}()
	select {
	case <-second:
		t.Fatal("a second connection was served")
	case <-time.After(100 * time.Millisecond):
	}
	first.CloseIdleConnections()
	require.NoError(t, <-second)
}

// TestKillLosesNothing kills a server under load and checks that every record
// that it had acknowledged is stored.
func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	acked := map[string]bool{}
	for round := range 3 {
		s := startServe(t, "-dir", dir)
		c := &client{http: &http.Client{Transport: &http.Transport{}}, url: s.url, region: "us-east-1", credentials: awswire.Credentials{AccessKey: "000000000000", Secret: "x"}}
		if round == 0 {
			require.NoError(t, c.call(t.Context(), "CreateStream", object{"StreamName": "s", "ShardCount": 4}, nil))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		before := len(acked)
		for w := range 8 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					var batch []object
					var names []string
					for j := range 5 {
						name := fmt.Sprintf("%d-%d-%d-%d", round, w, i, j)
						names = append(names, name)
						batch = append(batch, object{"Data": []byte(name), "PartitionKey": name})
					}
					var out struct{ FailedRecordCount int }
					if c.once(ctx, "PutRecords", object{"StreamName": "s", "Records": batch}, &out) != nil || out.FailedRecordCount > 0 {
						return
					}
					mu.Lock()
					for _, n := range names {
						acked[n] = true
					}
					mu.Unlock()
				}
			})
		}
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acked) > before+500
		}, 30*time.Second, time.Millisecond)
		require.NoError(t, s.cmd.Process.Kill())
		_ = s.cmd.Wait()
		wg.Wait()
		cancel()
		c.http.CloseIdleConnections()
	}
	found := map[string]int{}
	for _, l := range strings.Fields(mustCLI(t, "", "tail", "s", "-dir", dir)) {
		found[l]++
	}
	for name := range acked {
		require.Equal(t, 1, found[name], name)
	}
}
