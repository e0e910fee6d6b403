package redo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// fuzzEntry returns the entry with a number in a generation.
func fuzzEntry(gen uint32, seq uint64) []byte {
	b := binary.LittleEndian.AppendUint32(nil, gen)
	b = binary.LittleEndian.AppendUint64(b, seq)
	return append(b, bytes.Repeat([]byte{byte(seq)}, int(seq*seq*31%3000))...)
}

// wordsRing returns a ring of entries that has wrapped and was begun twice, and up to
// which number they go.
func wordsRing(t testing.TB, key []byte) (ring []byte, last uint64) {
	f := &memoryFile{}
	r, err := Create(inMemory(t, f, nil))
	require.NoError(t, err)
	for range 2 {
		gen := r.Generation() + 1
		var first [][]byte
		for seq := range uint64(20) {
			first = append(first, fuzzEntry(gen, seq+1))
		}
		places, err := r.Begin(Mark{}, key, Words, first)
		require.NoError(t, err)
		for range 500 {
			last = r.End().Seq
			p, ok := r.Note(0, fuzzEntry(gen, last))
			if !ok {
				n := len(places) / 2
				require.NoError(t, r.Release(places[n], Mark{}, n%2 == 0))
				places = places[n:]
				continue
			}
			places = append(places, p)
		}
		last = r.End().Seq - 1
	}
	return f.b, last
}

// Whatever becomes of the bytes of a ring of entries, what is read of it are entries that
// were written, in their order, without one left out.
func FuzzEntriesThatAreDamaged(f *testing.F) {
	secret := make([]byte, 32)
	plain, last := wordsRing(f, nil)
	sealed, _ := wordsRing(f, secret)
	f.Add(false, uint32(Page), uint16(20), []byte{1}, uint32(8*Page), []byte("x"), uint32(0), false)
	f.Add(true, uint32(2*Page), uint16(0), []byte{}, uint32(9*Page+60), []byte{0, 0, 0}, uint32(200<<10), true)
	f.Add(false, uint32(5*Page), uint16(4096), []byte{}, uint32(4*Page+12), []byte{2}, uint32(0), true)
	f.Fuzz(func(t *testing.T, encrypted bool, from uint32, n uint16, a []byte, at uint32, b []byte, cut uint32, lost bool) {
		src, key := plain, []byte(nil)
		if encrypted {
			src, key = sealed, secret
		}
		file := damagedFile(src, int(from), int(n), a, int(at), b, int(cut))
		r, err := Open(inMemory(t, file, key))
		var damage *shardlog.DamageError
		if err != nil {
			require.ErrorAs(t, err, &damage)
			return
		}
		next := uint64(0)
		err = r.Read(lost, func(fr Frame) error {
			require.Empty(t, fr.Ops)
			require.True(t, next == 0 || fr.At.Seq == next, "entry %d follows %d", fr.At.Seq, next-1)
			require.LessOrEqual(t, fr.At.Seq, last)
			require.True(t, bytes.Equal(fuzzEntry(r.Generation(), fr.At.Seq), fr.Entry), "entry %d", fr.At.Seq)
			next = fr.At.Seq + 1
			return nil
		})
		if err != nil {
			require.ErrorAs(t, err, &damage)
		} else if !lost && bytes.Equal(file.b, src) {
			require.Equal(t, last+1, next)
		}
	})
}

// A ring whose bytes changed while it was closed is read to its end, or shows where it
// does not continue; each single change is tried in a small ring.
func TestEachChangedByteOfEntries(t *testing.T) {
	for _, key := range [][]byte{nil, make([]byte, 32)} {
		t.Run(fmt.Sprintf("sealed %t", key != nil), func(t *testing.T) {
			f := &memoryFile{}
			r, err := Create(inMemory(t, f, nil))
			require.NoError(t, err)
			_, err = r.Begin(Mark{}, key, Words, [][]byte{[]byte("first")})
			require.NoError(t, err)
			var ends []int64
			want := []string{"first"}
			for i := range 6 {
				want = append(want, fmt.Sprint("entry ", i))
				_, ok := r.Note(0, []byte(want[i+1]))
				require.True(t, ok)
			}
			ends = append(ends, r.End().At)
			o := inMemory(t, f, key)
			for at := int64(firstFrame); at < ends[0]; at++ {
				for _, lost := range []bool{true, false} {
					f.b[at] ^= 0x41
					r, err := Open(o)
					require.NoError(t, err)
					n := 0
					err = r.Read(lost, func(fr Frame) error {
						require.Equal(t, want[n], string(fr.Entry))
						n++
						return nil
					})
					f.b[at] ^= 0x41
					if n < len(want)-1 && !lost {
						var damage *shardlog.DamageError
						require.ErrorAs(t, err, &damage, "byte %d", at)
					} else if err != nil {
						require.False(t, lost, "byte %d: %v", at, err)
					}
				}
			}
		})
	}
}
