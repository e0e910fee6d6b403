package awswire

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The memory of a body can be another's while its part of the bounds is still the
// request's.
func TestRecycledBodyKeepsItsPartOfTheBounds(t *testing.T) {
	b := NewBodies(1<<20, 1<<20, time.Minute)
	for _, size := range []int{0, 100, firstPiece, firstPiece + 1, 100_000} {
		text := strings.Repeat("x", size)
		var body Body
		require.Zero(t, b.Read(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(text)), &body))
		require.Equal(t, text, string(body.Bytes))
		left := func() int {
			whole, beginnings := b.Left()
			return int(1<<20 - whole + 1<<19 - beginnings)
		}
		require.Equal(t, size, left())
		for range 2 {
			body.Recycle()
			require.Nil(t, body.Bytes)
			require.Equal(t, size, left())
		}
		for range 2 {
			body.Release()
			require.Zero(t, left())
		}
	}
	var body Body
	require.Equal(t, 413, b.Read(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 1<<20+1))), &body))
	require.Equal(t, Body{}, body)
}
