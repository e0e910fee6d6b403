package awswire

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBudgetOfBodies(t *testing.T) {
	b := NewBudget(10)
	ctx := t.Context()
	require.NoError(t, b.Reserve(ctx, 6))
	got := make(chan int64, 2)
	for _, n := range []int64{5, 4} {
		before := 0
		b.mu.Lock()
		before = len(b.waiting)
		b.mu.Unlock()
		go func() {
			if b.Reserve(ctx, n) == nil {
				got <- n
			}
		}()
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.waiting) > before
		}, 10*time.Second, time.Millisecond)
	}
	b.Release(6)
	require.ElementsMatch(t, []int64{5, 4}, []int64{<-got, <-got})
	b.Release(9)
	require.Equal(t, int64(10), b.left)
}

// One that gives up lets those behind it have what it was waiting for.
func TestBudgetAfterTheFirstHasGivenUp(t *testing.T) {
	b := NewBudget(10)
	require.NoError(t, b.Reserve(t.Context(), 6))
	waiting := func(n int) {
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.waiting) == n
		}, 10*time.Second, time.Millisecond)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	large, small := make(chan error), make(chan error)
	go func() { large <- b.Reserve(ctx, 10) }()
	waiting(1)
	go func() { small <- b.Reserve(t.Context(), 4) }()
	waiting(2)
	gone := errors.New("the client is gone")
	cancel(gone)
	require.ErrorIs(t, <-large, gone)
	require.NoError(t, <-small)
	require.Zero(t, b.Left())
}
