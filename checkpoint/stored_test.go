package checkpoint_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// A row goes through its life, and what is stored decodes to what was decided.
func TestStoredRow(t *testing.T) {
	var r checkpoint.StoredRow
	decode := func(value []byte, err error) {
		t.Helper()
		require.NoError(t, err)
		r, err = checkpoint.DecodeStored(value)
		require.NoError(t, err)
	}
	l := checkpoint.Lease{Key: testKey, Version: 77}
	_, err := r.Update(&l)
	require.ErrorIs(t, err, shardlog.ErrNotFound, "never was")
	_, err = r.Delete(&l)
	require.ErrorIs(t, err, shardlog.ErrNotFound)

	decode(r.Create(&l))
	assert.EqualValues(t, 1, l.Version)
	assert.Equal(t, checkpoint.StoredRow{Lease: l, Live: true, Version: 1}, r)
	_, err = r.Create(&l)
	require.ErrorIs(t, err, shardlog.ErrExists)

	other := checkpoint.Lease{Key: testKey, Version: 9}
	_, err = r.Update(&other)
	require.ErrorIs(t, err, shardlog.ErrConflict)
	_, err = r.Delete(&other)
	require.ErrorIs(t, err, shardlog.ErrConflict)

	l.Owner = "w"
	decode(r.Update(&l))
	assert.Equal(t, checkpoint.StoredRow{Lease: l, Live: true, Version: 2}, r)
	decode(r.Delete(&l))
	assert.Equal(t, checkpoint.StoredRow{Version: 2}, r)
	_, err = r.Update(&l)
	require.ErrorIs(t, err, shardlog.ErrNotFound, "deleted")
	decode(r.Create(&l))
	assert.EqualValues(t, 3, l.Version, "no version comes back")

	_, err = r.Update(&checkpoint.Lease{Version: 3})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
}

// TestStoredRowFormat pins the stored bytes: a change here is a change of format.
func TestStoredRowFormat(t *testing.T) {
	l := checkpoint.Lease{Key: testKey}
	value, err := checkpoint.StoredRow{Version: math.MaxUint64 - 1}.Create(&l)
	require.NoError(t, err)
	row, err := checkpoint.Marshal(l)
	require.NoError(t, err)
	assert.Equal(t, append([]byte{1}, row...), value)
	r, err := checkpoint.DecodeStored(value)
	require.NoError(t, err)
	value, err = r.Delete(&l)
	require.NoError(t, err)
	assert.Equal(t, []byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, value)

	for _, bad := range []string{"", "\x00", "\x0012345678 ", "\x01", "\x01{}", "\x02{}", "L{}"} {
		_, err := checkpoint.DecodeStored([]byte(bad))
		require.ErrorIs(t, err, shardlog.ErrCorrupt, "%q", bad)
	}
	_, err = checkpoint.DecodeStored([]byte("\x01" + `{"v":3}`))
	require.ErrorIs(t, err, shardlog.ErrVersion)
}
