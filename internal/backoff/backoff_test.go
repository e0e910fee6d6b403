package backoff

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func TestBoundDoublesUpToMax(t *testing.T) {
	p := Policy{Initial: 50 * time.Millisecond, Max: time.Second}
	for attempts, want := range map[int]time.Duration{
		0: 50 * time.Millisecond, 1: 50 * time.Millisecond, 2: 100 * time.Millisecond, 5: 800 * time.Millisecond,
		6: time.Second, 7: time.Second, math.MaxInt: time.Second,
	} {
		require.Equal(t, want, p.Bound(attempts), attempts)
	}
	require.Equal(t, time.Minute, Policy{Initial: time.Minute, Max: time.Second + time.Minute}.Bound(1))
	require.Equal(t, time.Second, Policy{Initial: time.Minute, Max: time.Second}.Bound(1))
}

func TestBoundDoesNotOverflow(t *testing.T) {
	p := Policy{Initial: 1 << 61, Max: math.MaxInt64}
	for attempts := range 100 {
		require.Positive(t, p.Bound(attempts), attempts)
	}
	require.Equal(t, time.Duration(math.MaxInt64), p.Bound(4))
	for range 100 {
		require.Positive(t, p.Pause(5, nil))
	}
	require.Positive(t, p.PauseAt(math.Nextafter(1, 0), 5, nil))
}

func TestPauseIsWithinTheBound(t *testing.T) {
	p := Policy{Initial: 8, Max: 64}
	for attempts := 1; attempts < 6; attempts++ {
		bound := p.Bound(attempts)
		require.Equal(t, time.Duration(1), p.PauseAt(0, attempts, nil))
		require.Equal(t, bound, p.PauseAt(math.Nextafter(1, 0), attempts, nil))
		for range 100 {
			pause := p.Pause(attempts, nil)
			require.Positive(t, pause)
			require.LessOrEqual(t, pause, bound)
		}
	}
	require.Equal(t, time.Duration(1), Policy{}.Pause(3, nil))
}

func TestPauseHonoursRetryAfter(t *testing.T) {
	p := Policy{Initial: time.Second, Max: time.Second}
	long := fmt.Errorf("around: %w", &shardlog.Error{Op: "put", Err: errors.New("slow down"), RetryAfter: time.Hour})
	require.Equal(t, time.Hour, p.Pause(1, long))
	short := &shardlog.Error{Op: "put", Err: errors.New("slow down"), RetryAfter: 1}
	require.Equal(t, time.Second/2+1, p.PauseAt(0.5, 1, short))
	require.Zero(t, RetryAfter(errors.New("other")))
	require.Zero(t, RetryAfter(nil))
}
