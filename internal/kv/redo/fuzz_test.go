package redo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// memoryFile is a File in memory.
type memoryFile struct{ b []byte }

func (f *memoryFile) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(f.b)) {
		return 0, io.EOF
	}
	n := copy(b, f.b[at:])
	if n < len(b) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (f *memoryFile) WriteAt(b []byte, at int64) (int, error) {
	if grow := int(at) + len(b) - len(f.b); grow > 0 {
		f.b = append(f.b, make([]byte, grow)...)
	}
	return copy(f.b[at:], b), nil
}

func (f *memoryFile) Sync() error          { return nil }
func (f *memoryFile) Size() (int64, error) { return int64(len(f.b)), nil }
func (f *memoryFile) Close() error         { return nil }

func (f *memoryFile) Map(int64) ([]byte, error) { return nil, ErrNotMapped }

func (f *memoryFile) Allocate(int64) error { return ErrNotMapped }
func (f *memoryFile) Unmap([]byte) error   { return nil }

// inMemory returns options for a ring in f. Its path exists, as Open wants.
func inMemory(t testing.TB, f *memoryFile, key []byte) Options {
	path := filepath.Join(t.TempDir(), "REDO")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	open := func(path string) (File, error) { return f, os.WriteFile(path, nil, 0o600) }
	return Options{Path: path, ID: testID, Key: always(key), Open: open}
}

// wrapped returns a ring that has wrapped, with the batches that it holds by
// version, and those that it held.
func wrapped(t testing.TB, key []byte) (ring []byte, all map[uint64]*kv.Batch) {
	f := &memoryFile{}
	r, err := Create(inMemory(t, f, nil))
	require.NoError(t, err)
	begin(t, r, Mark{Base: 9}, key)
	all = map[uint64]*kv.Batch{}
	var half kv.Position
	for v := uint64(10); v < 60; v++ {
		b := batch(int(v), make([]byte, v*v*7%9000), []byte{byte(v)})
		if _, ok := r.place(framed(r, b)); !ok {
			require.NoError(t, r.Release(half, Mark{Base: v - 5}, true))
		}
		require.True(t, r.Fits(b))
		_, err := r.Append(v, b)
		require.NoError(t, err)
		all[v] = b
		if v%10 == 5 {
			half = r.End()
		}
	}
	return f.b, all
}

// Whatever becomes of the bytes of a ring, what is read of it are batches that were
// written, in their order, without one left out.
func FuzzRingThatIsDamaged(f *testing.F) {
	secret := make([]byte, 32)
	plain, all := wrapped(f, nil)
	sealed, _ := wrapped(f, secret)
	f.Add(false, uint32(Page), uint16(20), []byte{1}, uint32(8*Page), []byte("x"), uint32(0))
	f.Add(true, uint32(2*Page), uint16(0), []byte{}, uint32(9*Page+60), []byte{0, 0, 0}, uint32(200<<10))
	f.Add(false, uint32(5*Page), uint16(4096), []byte{}, uint32(4*Page+12), []byte{2}, uint32(0))
	f.Fuzz(func(t *testing.T, encrypted bool, from uint32, n uint16, a []byte, at uint32, b []byte, cut uint32) {
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
		last := uint64(0)
		err = r.Read(false, func(fr Frame) error {
			require.Contains(t, all, fr.Version)
			requireOps(t, all[fr.Version].Ops, fr.Ops)
			require.True(t, last == 0 || fr.Version == last+1, "batch %d follows %d", fr.Version, last)
			last = fr.Version
			return nil
		})
		if err != nil {
			require.ErrorAs(t, err, &damage)
		}
	})
}

// damagedFile returns a file with the bytes of src, but n zeros from an offset on, then a there,
// b at another offset, and, unless cut is 0, an earlier end.
func damagedFile(src []byte, from, n int, a []byte, at int, b []byte, cut int) *memoryFile {
	f := &memoryFile{b: bytes.Clone(src)}
	clear(slice(f.b, from, n))
	copy(slice(f.b, from, len(a)), a)
	copy(slice(f.b, at, len(b)), b)
	if cut > 0 {
		f.b = f.b[:cut%len(f.b)]
	}
	return f
}

// slice returns up to n bytes from an offset.
func slice(b []byte, at, n int) []byte {
	at = min(at, len(b))
	return b[at:min(at+n, len(b))]
}

// What is in the pages of frames may be anything: it is read, or not, without a panic
// and without memory that it does not have.
func FuzzFrame(f *testing.F) {
	ring, _ := wrapped(f, nil)
	f.Add(ring[firstFrame:firstFrame+3*Page], false)
	f.Add(ring[firstFrame+5*Page:firstFrame+6*Page], true)
	f.Fuzz(func(t *testing.T, b []byte, encrypted bool) {
		file := &memoryFile{b: append([]byte(nil), ring[:firstFrame]...)}
		file.b = append(file.b, b...)
		file.b = append(file.b, make([]byte, max(0, MinSize-len(file.b)))...)
		file.b = file.b[:len(file.b)/Page*Page]
		// The checksum of the first frame is made right, so that more than it is
		// looked at.
		first := file.b[firstFrame:]
		if n := int(binary.LittleEndian.Uint32(first[32:])); n <= len(first)-frameHeader {
			binary.LittleEndian.PutUint64(first, (&Ring{opts: Options{ID: testID}}).sum(first[8:frameHeader+n]))
		}
		var key []byte
		if encrypted {
			key = make([]byte, 32)
		}
		r, err := Open(inMemory(t, file, key))
		if err != nil {
			return
		}
		r.state.at, r.state.seq = firstFrame, binary.LittleEndian.Uint64(first[16:])
		r.state.gen, r.state.attempt = binary.LittleEndian.Uint32(first[12:]), binary.LittleEndian.Uint32(first[40:])
		err = r.Read(false, func(Frame) error { return nil })
		var damage *shardlog.DamageError
		require.True(t, err == nil || errors.As(err, &damage), "%v", err)
	})
}

// The changes of a frame are those that were encoded, or an error.
func FuzzDecodeOps(f *testing.F) {
	f.Add([]byte{2, 0, 1, 1, 'k', 'v', 1, 1, 0, 'd'})
	f.Add([]byte{1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ops, err := decodeOps(b)
		if err != nil {
			return
		}
		n := 0
		for _, op := range ops {
			n += len(op.Key) + len(op.Value)
		}
		require.LessOrEqual(t, n, len(b))
	})
}
