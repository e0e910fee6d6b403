package leaktest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func TestAGoroutineThatStaysIsFound(t *testing.T) {
	require.Empty(t, running())
	begun, end := make(chan struct{}), make(chan struct{})
	go func() {
		close(begun)
		<-end
	}()
	<-begun
	left := running()
	require.Len(t, left, 1)
	require.Contains(t, left[0], "TestAGoroutineThatStaysIsFound")
	require.Empty(t, Now().Left(), "what was there before does not count")
	close(end)
	require.Empty(t, Left())
}
