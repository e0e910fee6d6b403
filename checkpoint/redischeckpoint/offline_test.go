package redischeckpoint_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/redischeckpoint"
)

func TestBadArguments(t *testing.T) {
	_, err := redischeckpoint.Open(t.Context(), nil, &redischeckpoint.Options{Prefix: "{a}"})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	require.ErrorContains(t, err, "invalid Client")
	require.ErrorContains(t, err, "invalid Prefix")
}

func TestNoServer(t *testing.T) {
	c := redis.NewClient(&redis.Options{MaxRetries: -1, Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("nobody there")
	}})
	defer c.Close()
	_, err := redischeckpoint.Open(t.Context(), c, nil)
	require.ErrorIs(t, err, checkpoint.ErrUnavailable)
}

// A server that does not answer holds nobody up whose context ends.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c := redis.NewClient(&redis.Options{Addr: l.Addr().String(), MaxRetries: -1, ReadTimeout: time.Minute})
	defer c.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 1)) // it got the command
		}
		cancel(why)
	}()
	_, err = redischeckpoint.Open(ctx, c, nil)
	require.ErrorIs(t, err, why)
}
