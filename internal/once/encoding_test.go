package once

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func FuzzDecodeState(f *testing.F) {
	s := storedState{epoch: 3, gen: 2, used: 1, done: 7}
	for i := range uint64(5) {
		s.stored = append(s.stored, numbered{7 + i*i, shardlog.NewSequenceNumber(1000, uint32(i%2), 50-i, 2000+int64(i))})
	}
	f.Add(s.encode())
	f.Add((&storedState{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 8 { // a checksum keeps nearly everything out
			binary.LittleEndian.PutUint64(b, xxhash.Sum64(b[8:]))
		}
		s, err := decodeState(b, false)
		if err != nil {
			require.True(t, errors.Is(err, shardlog.ErrCorrupt) || errors.Is(err, shardlog.ErrVersion))
			return
		}
		require.True(t, slices.IsSortedFunc(s.stored, compareNumbers))
		again, err := decodeState(s.encode(), false)
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}
