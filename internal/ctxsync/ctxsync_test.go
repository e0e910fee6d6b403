package ctxsync

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestRWMutexExcludesWriters(t *testing.T) {
	l := NewRWMutex()
	var readers, writers atomic.Int32
	var wg sync.WaitGroup
	for seed := range int64(8) {
		wg.Go(func() {
			for i := range int64(2000) {
				// Some give up: sometimes before, sometimes while they wait.
				ctx, cancel := context.WithCancel(context.Background())
				if (seed+i)%5 == 0 {
					go cancel()
				}
				if (seed+i)%7 == 0 {
					if l.Lock(ctx) == nil {
						if writers.Add(1) != 1 || readers.Load() != 0 {
							t.Error("a writer is not alone")
						}
						writers.Add(-1)
						l.Unlock()
					}
				} else if l.RLock(ctx) == nil {
					readers.Add(1)
					if writers.Load() != 0 {
						t.Error("a reader meets a writer")
					}
					readers.Add(-1)
					l.RUnlock()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	require.Zero(t, l.state.Load())
	require.NoError(t, l.Lock(t.Context()), "everybody has left")
}

func TestRWMutexWaitsEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bg := context.Background()
		why := errors.New("why")
		l := NewRWMutex()
		require.NoError(t, l.RLock(bg))

		// A writer that waits for a reader, and those that wait for it.
		ctx, cancel := context.WithCancelCause(bg)
		errs := make(chan error, 3)
		go func() { errs <- l.Lock(ctx) }()
		synctest.Wait()
		go func() { errs <- l.Lock(ctx) }()
		go func() { errs <- l.RLock(ctx) }()
		synctest.Wait()
		require.Empty(t, errs, "a waiting writer keeps new readers out")
		cancel(why)
		for range 3 {
			require.ErrorIs(t, <-errs, why)
		}
		require.NoError(t, l.RLock(bg), "a writer that gave up is in nobody's way")
		l.RUnlock()
		l.RUnlock()
		require.NoError(t, l.Lock(bg))

		// Waiting readers enter before the next writer.
		var order []string
		var mu sync.Mutex
		note := func(s string) { mu.Lock(); order = append(order, s); mu.Unlock() }
		go func() { _ = l.Lock(bg); note("writer"); l.Unlock() }()
		synctest.Wait()
		release := make(chan struct{})
		for range 2 {
			go func() { _ = l.RLock(bg); note("reader"); <-release; l.RUnlock() }()
		}
		synctest.Wait()
		l.Unlock()
		synctest.Wait()
		close(release)
		synctest.Wait()
		require.Equal(t, []string{"reader", "reader", "writer"}, order)
	})
}
