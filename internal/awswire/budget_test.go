package awswire

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestBudgetOfBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		ctx := t.Context()
		require.NoError(t, b.Reserve(ctx, 6))
		got := make(chan int64, 2)
		for _, n := range []int64{5, 4} {
			go func() {
				if b.Reserve(ctx, n) == nil {
					got <- n
				}
			}()
			synctest.Wait() // until it waits
			require.Empty(t, got)
		}
		b.Release(6)
		require.ElementsMatch(t, []int64{5, 4}, []int64{<-got, <-got})
		b.Release(9)
		require.Equal(t, int64(10), b.left)
	})
}

// One that gives up lets those behind it have what it was waiting for.
func TestBudgetAfterTheFirstHasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		require.NoError(t, b.Reserve(t.Context(), 6))
		ctx, cancel := context.WithCancelCause(t.Context())
		large, small := make(chan error, 1), make(chan error, 1)
		go func() { large <- b.Reserve(ctx, 10) }()
		synctest.Wait()
		go func() { small <- b.Reserve(t.Context(), 4) }()
		synctest.Wait()
		require.Empty(t, large)
		require.Empty(t, small)
		gone := errors.New("the client is gone")
		cancel(gone)
		require.ErrorIs(t, <-large, gone)
		require.NoError(t, <-small)
		require.Zero(t, b.Left())
	})
}
