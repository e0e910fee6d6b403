package redischeckpoint_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
	"github.com/shardlog/shardlog/checkpoint/redischeckpoint"
)

// The tests of this file need a server: SHARDLOG_REDIS is 1 for one that is
// started for the test, or the address of one, HOST:PORT. Without it they are
// not part of the suite; what needs none is in offline_test.go.

// server starts Redis for the tests of this process, once.
var server = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "redischeckpoint-")
	if err != nil {
		return "", err
	}
	addr, start, err := redisServer(dir)
	if err != nil {
		return "", err
	}
	cmd, err := start()
	stopServer = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	return addr, err
})

var stopServer = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	stopServer()
	os.Exit(code)
}

// redisServer finds a port; start starts a server on it that keeps all that it
// acknowledges in dir, and returns when it answers.
func redisServer(dir string) (addr string, start func() (*exec.Cmd, error), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr = l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	if err := l.Close(); err != nil {
		return "", nil, err
	}
	return addr, func() (*exec.Cmd, error) {
		cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
		if err := cmd.Start(); err != nil {
			return cmd, err
		}
		c := redis.NewClient(&redis.Options{Addr: addr})
		defer c.Close()
		for range 200 {
			if err = c.Ping(context.Background()).Err(); err == nil {
				return cmd, nil
			}
			time.Sleep(25 * time.Millisecond) // a real server starts in real time
		}
		return cmd, err
	}, nil
}

func address(t *testing.T) string {
	t.Helper()
	addr := os.Getenv("SHARDLOG_REDIS")
	if addr == "1" {
		var err error
		addr, err = server()
		require.NoError(t, err)
	}
	return addr
}

var prefixes atomic.Int64

// newStore returns an empty store, with a prefix of its own.
func newStore(t *testing.T, o redis.Options) *redischeckpoint.Store {
	t.Helper()
	return openStore(t, o, newPrefix())
}

func newPrefix() string { return fmt.Sprintf("test:%d:%d:", os.Getpid(), prefixes.Add(1)) }

func openStore(t *testing.T, o redis.Options, prefix string) *redischeckpoint.Store {
	t.Helper()
	o.Addr = address(t)
	c := redis.NewClient(&o)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	s, err := redischeckpoint.Open(t.Context(), c, &redischeckpoint.Options{Prefix: prefix})
	require.NoError(t, err)
	return s
}

func TestWithAServer(t *testing.T) {
	if address(t) == "" {
		return
	}
	t.Run("conforms", func(t *testing.T) {
		checkpointtest.Run(t, func(t *testing.T) checkpoint.Store { return newStore(t, redis.Options{}) })
	})
	checkpointtest.RunShared(t, func(t *testing.T) (a, b checkpoint.Store) {
		prefix := newPrefix()
		return openStore(t, redis.Options{}, prefix), openStore(t, redis.Options{}, prefix)
	})
	checkpointtest.RunMany(t, func(t *testing.T) checkpoint.Store { return newStore(t, redis.Options{}) })
	for name, retries := range map[string]int{"faults": -1, "faults that the client repeats": 3} {
		t.Run(name, func(t *testing.T) {
			checkpointtest.RunFaults(t, func(t *testing.T) checkpointtest.Faulty { return faulty(t, retries) })
		})
	}
	t.Run("outlasts the server", testServerKilled)
	t.Run("refusals", testRefusals)
}

// faulty has a connection that can be disturbed. Redis has no throttling.
func faulty(t *testing.T, retries int) checkpointtest.Faulty {
	n := &network{}
	s := newStore(t, redis.Options{MaxRetries: retries, Dialer: n.dial})
	k := checkpoint.Key{Group: "warm", Stream: "s", Shard: "x"}
	l, err := s.Create(t.Context(), checkpoint.Lease{Key: k}) // so that the server knows the scripts
	require.NoError(t, err)
	l, err = s.Update(t.Context(), l)
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), l))
	t.Cleanup(func() { require.Zero(t, n.next.Load(), "the fault did not happen") })
	return checkpointtest.Faulty{Store: s, Inject: func(f checkpointtest.Fault) bool {
		if f == checkpointtest.Throttled {
			return false
		}
		n.next.Store(int64(f))
		return true
	}}
}

// network is a way to the server that loses the request or the answer of the
// next script.
type network struct{ next atomic.Int64 }

func (n *network) dial(ctx context.Context, proto, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, proto, addr)
	return &conn{Conn: c, n: n}, err
}

func (n *network) meets(f checkpointtest.Fault) bool { return n.next.CompareAndSwap(int64(f), 0) }

type conn struct {
	net.Conn
	n      *network
	script bool
}

func (c *conn) Write(b []byte) (int, error) {
	c.script = strings.Contains(string(b), "evalsha")
	if c.script && c.n.meets(checkpointtest.LostRequest) {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.script && c.n.meets(checkpointtest.LostAnswer) {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func testServerKilled(t *testing.T) {
	if os.Getenv("SHARDLOG_REDIS") != "1" {
		return // it is not ours
	}
	addr, start, err := redisServer(t.TempDir())
	require.NoError(t, err)
	cmd, err := start()
	require.NoError(t, err)
	checkpointtest.RunReopen(t, func(t *testing.T) (checkpoint.Store, func() checkpoint.Store) {
		open := func() checkpoint.Store {
			c := redis.NewClient(&redis.Options{Addr: addr})
			t.Cleanup(func() { _ = c.Close() })
			s, err := redischeckpoint.Open(t.Context(), c, nil)
			require.NoError(t, err)
			return s
		}
		return open(), func() checkpoint.Store {
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			cmd, err = start()
			require.NoError(t, err)
			return open()
		}
	})
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

// What the server refuses is no answer about the row.
func testRefusals(t *testing.T) {
	ctx := t.Context()
	c := redis.NewClient(&redis.Options{Addr: address(t)})
	defer c.Close()
	prefix := fmt.Sprintf("test:%d:refusals:", os.Getpid())
	s, err := redischeckpoint.Open(ctx, c, &redischeckpoint.Options{Prefix: prefix})
	require.NoError(t, err)
	k := checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}
	require.NoError(t, c.Set(ctx, prefix+"{Zw}:rows", "not a hash", 0).Err())
	_, err = s.Create(ctx, checkpoint.Lease{Key: k})
	require.ErrorIs(t, err, checkpoint.ErrUnavailable)
	_, err = s.List(ctx, "g", "")
	require.ErrorIs(t, err, checkpoint.ErrUnavailable)
	require.NoError(t, c.Del(ctx, prefix+"{Zw}:rows").Err())
	require.NoError(t, c.HSet(ctx, prefix+"{Zw}:rows", "1:sx", "damage").Err())
	_, err = s.Get(ctx, k)
	require.ErrorIs(t, err, shardlog.ErrCorrupt)
	_, err = s.List(ctx, "g", "s")
	require.ErrorIs(t, err, shardlog.ErrCorrupt)
}
