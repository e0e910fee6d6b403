package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
)

// build builds the command as users do, without the flags of a test run.
func build(t *testing.T) string {
	exe := filepath.Join(t.TempDir(), "shardlog")
	if runtime.GOOS == "windows" {
		exe += ".exe"
	}
	cmd := exec.Command("go", "build", "-o", exe, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return exe
}

// begin starts a server and returns its URL and how long it took to answer.
func begin(t *testing.T, exe string) (cmd *exec.Cmd, url string, took time.Duration) {
	began := time.Now()
	cmd = exec.Command(exe, "serve", "-addr", "127.0.0.1:0", "-memory")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	url = strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	res, err := http.Get(url + "/_shardlog/ready")
	require.NoError(t, err)
	_ = res.Body.Close()
	require.Equal(t, 200, res.StatusCode)
	return cmd, url, time.Since(began)
}

// resident returns the resident memory of a process in KiB, 0 where the system
// does not report it.
func resident(t *testing.T, cmd *exec.Cmd) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(b), "VmRSS:")
	require.True(t, ok)
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(t, err)
	return n
}

// TestFootprint checks that a server answers within 20 ms of its start, and that
// it takes less than 15 MiB while idle and less than 100 MiB with a thousand
// subscriptions. The best of several starts counts, because the machine may be
// busy with other work.
func TestFootprint(t *testing.T) {
	exe := build(t)
	best := time.Hour
	for i := 0; i < 30 && best > 15*time.Millisecond; i++ {
		cmd, _, took := begin(t, exe)
		best = min(best, took)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	t.Logf("start to first answer: %v", best)
	require.Less(t, best, 20*time.Millisecond)

	cmd, url, _ := begin(t, exe)
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var idle int
	require.Eventually(t, func() bool {
		idle = resident(t, cmd)
		return idle < 15<<10
	}, 30*time.Second, 50*time.Millisecond, "idle, but large")
	t.Logf("idle: %d KiB", idle)

	c := &client{http: &http.Client{Transport: &http.Transport{}}, url: url, region: "us-east-1", credentials: awswire.Credentials{AccessKey: "000000000000", Secret: "x"}}
	defer c.http.CloseIdleConnections()
	const shards, consumers = 50, 20
	require.NoError(t, c.call(t.Context(), "CreateStream", object{"StreamName": "s", "ShardCount": shards}, nil))
	for i := range consumers {
		var out struct{ Consumer struct{ ConsumerARN string } }
		in := object{"StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s", "ConsumerName": fmt.Sprint("c", i)}
		require.NoError(t, c.call(t.Context(), "RegisterStreamConsumer", in, &out))
		for j := range shards {
			body := c.subscribe(t, out.Consumer.ConsumerARN, j)
			defer body.Close()
		}
	}
	open := resident(t, cmd)
	t.Logf("with %d subscriptions: %d KiB", shards*consumers, open)
	require.Less(t, open, 100<<10)
}

// subscribe opens a subscription and reads its first bytes.
func (c *client) subscribe(t *testing.T, arn string, shard int) io.Closer {
	body, err := json.Marshal(object{"ConsumerARN": arn, "ShardId": fmt.Sprint(shard), "StartingPosition": object{"Type": "LATEST"}})
	require.NoError(t, err)
	r, err := http.NewRequest("POST", c.url+"/", strings.NewReader(string(body)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202.SubscribeToShard")
	awswire.Sign(r, body, c.credentials, c.region, "kinesis", time.Now())
	res, err := c.http.Do(r)
	require.NoError(t, err)
	require.Equal(t, 200, res.StatusCode)
	_, err = io.ReadFull(res.Body, make([]byte, 100))
	require.NoError(t, err)
	return res.Body
}
