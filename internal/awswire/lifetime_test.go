package awswire

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestLifetimeWaitsForWhatHasEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLifetime()
		require.True(t, l.Enter())
		require.False(t, l.Closed())
		closed := false
		go func() {
			l.Close()
			closed = true
		}()
		synctest.Wait()
		require.True(t, l.Closed())
		require.False(t, closed, "something has not left")
		require.Error(t, l.Context().Err())
		require.False(t, l.Enter())
		l.Leave()
		synctest.Wait()
		require.True(t, closed)
		l.Close()
	})
}
