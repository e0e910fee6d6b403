package badgerkv

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// placeOf returns where the value of a key is.
func placeOf(t *testing.T, s *Store, key string) (p badgerfile.Pointer) {
	t.Helper()
	require.NoError(t, s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(key))
		require.NoError(t, err)
		var ok bool
		p, ok = place(item)
		require.True(t, ok, "%s is not in the value log", key)
		return nil
	}))
	return p
}

// change writes to a file that the store has open.
func change(t *testing.T, path string, at int64, what func(b []byte)) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	what(b)
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// The fields of Badger's that places are read from are those of this version.
func TestPlacesAreKnown(t *testing.T) {
	require.NotEqual(t, -1, itemPointer)
	require.NotEqual(t, -1, itemMeta)
	s := open(t, small(t.TempDir()))
	require.NoError(t, set(s, "k", bytes.Repeat([]byte("v"), 5000)))
	p := placeOf(t, s, "k")
	b, err := os.ReadFile(s.opts.Dir + "/" + badgerfile.ValueName(uint64(p.File)))
	require.NoError(t, err)
	require.Contains(t, string(b[p.Start:p.Start+p.Size]), string(bytes.Repeat([]byte("v"), 5000)))
}

// A value whose header is damaged, in whatever way, is an error that names the
// file. It takes nothing with it: other values are read, the file is filled and
// followed by others, and the store is closed and opened again.
func TestADamagedHeaderOfAValueIsOneErrorAndNoMore(t *testing.T) {
	for _, key := range [][]byte{nil, bytes.Repeat([]byte("k"), 32)} {
		o := small(t.TempDir())
		o.EncryptionKey = key
		s, err := begin(o)
		require.NoError(t, err)
		big := bytes.Repeat([]byte("v"), 5000)
		const values = 6 * 8 // each bit of the bytes behind the flags
		for i := range values {
			require.NoError(t, set(s, fmt.Sprint("k", i), big))
		}
		require.NoError(t, set(s, "whole", big))
		for i := range values {
			p := placeOf(t, s, fmt.Sprint("k", i))
			change(t, o.Dir+"/"+badgerfile.ValueName(uint64(p.File)), int64(p.Start)+2+int64(i/8), func(b []byte) { b[0] ^= 1 << (i % 8) })
		}
		damaged := 0
		for i := range values {
			k := fmt.Sprint("k", i)
			v, err := s.Get([]byte(k))
			if err != nil {
				require.ErrorIs(t, err, shardlog.ErrCorrupt)
				var d *shardlog.DamageError
				require.ErrorAs(t, err, &d)
				require.EqualValues(t, placeOf(t, s, k).Start, d.Offset)
				damaged++
				err = s.GetMany([][]byte{[]byte(k)}, func(int, []byte) bool { return true })
				require.ErrorAs(t, err, &d)
			} else {
				// The time when it expires, which nothing uses.
				require.Len(t, v, len(big))
			}
			requireValue(t, s, "whole", big)
		}
		require.Greater(t, damaged, values/2)
		for i := range 30 { // more files
			require.NoError(t, set(s, fmt.Sprint("more", i), bytes.Repeat(big, 20)))
		}
		require.False(t, s.log.jammed.Load())
		require.NoError(t, s.Close())
		s, err = begin(o)
		require.NoError(t, err)
		requireValue(t, s, "whole", big)
		require.NoError(t, s.Close())
	}
}

// Another program cuts off a file that is in use: what it held is an error, and
// not the end of the process.
func TestAFileThatIsCutWhileItIsRead(t *testing.T) {
	for _, key := range [][]byte{nil, bytes.Repeat([]byte("k"), 32)} {
		o := small(t.TempDir())
		o.EncryptionKey = key
		s, err := begin(o)
		require.NoError(t, err)
		big := bytes.Repeat([]byte("v"), 100<<10)
		for i := range 14 { // the first file is full
			require.NoError(t, set(s, fmt.Sprint("k", i), big))
		}
		p := placeOf(t, s, "k5")
		require.EqualValues(t, 1, p.File)
		require.EqualValues(t, 2, placeOf(t, s, "k13").File)
		require.NoError(t, os.Truncate(o.Dir+"/"+badgerfile.ValueName(1), int64(p.Start+50<<10)))
		for i := range 14 {
			_, err := s.Get(fmt.Append([]byte("k"), i))
			switch place := placeOf(t, s, fmt.Sprint("k", i)); {
			case place.File == 1 && place.Start >= p.Start:
				require.ErrorIs(t, err, shardlog.ErrCorrupt, "k%d", i)
			default:
				require.NoError(t, err, "k%d", i)
			}
		}
		err = s.GetMany([][]byte{[]byte("k5")}, func(_ int, v []byte) bool { return bytes.Contains(v, []byte("x")) })
		require.ErrorIs(t, err, shardlog.ErrCorrupt)
		require.NoError(t, s.Close())
	}
}

// Value log GC stops to read a file at its first damage, and then removes the
// file: what lives behind the damage is kept.
func TestReclaimKeepsWhatIsBehindDamage(t *testing.T) {
	for name, at := range map[string]int64{"header": 3, "value": 1000} {
		t.Run(name, func(t *testing.T) {
			o := small(t.TempDir())
			s, err := begin(o)
			require.NoError(t, err)
			big := bytes.Repeat([]byte("v"), 20<<10)
			const n = 53 // more than a file
			for i := range n {
				require.NoError(t, set(s, fmt.Sprint("k", i), big))
			}
			damaged := placeOf(t, s, "k2")
			require.EqualValues(t, 1, damaged.File)
			change(t, s.path(badgerfile.ValueName(1)), int64(damaged.Start)+at, func(b []byte) { b[0] ^= 0x10 })
			var dead int64
			overwrite := func(from, to int) {
				for i := from; i < to; i++ {
					require.NoError(t, set(s, fmt.Sprint("k", i), big))
					dead += int64(len(big))
				}
			}
			overwrite(5, 45)
			for i := 0; exists(s.path(badgerfile.ValueName(1))); i++ {
				_, _, err := s.Reclaim(1, dead)
				require.NoError(t, err)
				overwrite(5, 6)
			}
			for i := range n {
				if i != 2 {
					requireValue(t, s, fmt.Sprint("k", i), big)
				}
			}
			v, err := s.Get([]byte("k2"))
			if name == "header" {
				require.ErrorIs(t, err, shardlog.ErrCorrupt)
			} else {
				require.NoError(t, err)
				require.NotEqual(t, big, v, "whoever stored it sees that it is damaged")
			}
			require.NoError(t, s.Close())
		})
	}
}

// Why the inventory cannot be written is all that is said.
func TestInventoryThatCannotBeWritten(t *testing.T) {
	inv := &badgerfile.Inventory{}
	err := inv.Write(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotContains(t, err.Error(), "remove")
}
