package reentry

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCurrentDiffersBetweenGoroutines(t *testing.T) {
	mine := Current()
	require.NotZero(t, mine)
	require.Equal(t, mine, Current())
	other := make(chan GoroutineID)
	go func() { other <- Current() }()
	require.NotEqual(t, mine, <-other)
}

func TestGoroutinesKnowWhoIsInside(t *testing.T) {
	var g Goroutines
	require.False(t, g.Inside())
	id := g.Enter()
	require.True(t, g.Inside())
	other := make(chan bool)
	go func() { other <- g.Inside() }()
	require.False(t, <-other)

	again := g.Enter()
	g.Leave(again)
	require.True(t, g.Inside(), "entered twice and left once")
	g.Leave(id)
	require.False(t, g.Inside())
	require.Empty(t, g.ids)

	g.Leave(id) // one too many changes nothing
	require.Empty(t, g.ids)
	g.Enter()
	require.True(t, g.Inside())
}

// Enter returns 0 where the runtime does not tell the goroutine's number. Then
// nothing was added, and the set may still be the zero value.
func TestLeaveOfNobody(t *testing.T) {
	var g Goroutines
	require.NotPanics(t, func() { g.Leave(0) })
	g.Enter()
	g.Leave(0)
	require.True(t, g.Inside())
}

func TestGoroutinesMayBeLeftFromElsewhere(t *testing.T) {
	var g Goroutines
	var wg sync.WaitGroup
	for range 32 {
		id := make(chan GoroutineID)
		wg.Go(func() { id <- g.Enter() })
		wg.Go(func() { g.Leave(<-id) })
	}
	wg.Wait()
	require.Empty(t, g.ids)
}
