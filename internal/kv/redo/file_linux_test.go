package redo

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file that was copied may have holes. They are filled before it is mapped: a write to
// one on a full disk would end the process.
func TestAMappedFileHasNoHoles(t *testing.T) {
	o := options(t)
	r := create(t, o)
	_, err := r.Begin(Mark{}, nil, Words, [][]byte{[]byte("entry")})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	b, err := os.ReadFile(o.Path)
	require.NoError(t, err)
	head, size := b[:8*Page], int64(len(b))
	require.NoError(t, os.Remove(o.Path))
	require.NoError(t, os.WriteFile(o.Path, head, 0o600))
	require.NoError(t, os.Truncate(o.Path, size))
	allocated := func() int64 {
		fi, err := os.Stat(o.Path)
		require.NoError(t, err)
		return fi.Sys().(*syscall.Stat_t).Blocks * 512
	}
	require.Less(t, allocated(), size)

	r = reopen(t, o)
	got, _ := entries(t, r)
	require.Equal(t, []string{"entry"}, got)
	_, err = r.Begin(Mark{}, nil, Words, [][]byte{[]byte("entry")})
	require.NoError(t, err)
	require.GreaterOrEqual(t, allocated(), size)
}
