package stream

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// An entry that shared a cache line with another would cost two.
func TestCachedHashIsACacheLine(t *testing.T) {
	require.EqualValues(t, 64, unsafe.Sizeof(cachedHash{}))
	require.Zero(t, unsafe.Offsetof(buffers{}.hashes))
}
