package redo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// plannedFile fails an operation, by its number, and notes its name.
type plannedFile struct {
	File
	p *plan
}

type plan struct {
	left   int // operations until one fails; none does when it is negative
	failed string
	mapped bool
}

func (p *plan) next(op string) error {
	if p.left--; p.left == 0 {
		p.failed = op
		return errDisk
	}
	return nil
}

func (f plannedFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.p.next("write"); err != nil {
		n, werr := f.File.WriteAt(b[:len(b)/Page/2*Page], at) // half of it
		return n, errors.Join(err, werr)
	}
	return f.File.WriteAt(b, at)
}

func (f plannedFile) Sync() error {
	if err := f.p.next("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f plannedFile) Size() (int64, error) {
	if err := f.p.next("size"); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f plannedFile) Map(n int64) ([]byte, error) {
	if err := f.p.next("map"); err != nil {
		return nil, err
	}
	if !f.p.mapped {
		return nil, ErrNotMapped
	}
	return f.File.Map(n)
}

func (f plannedFile) Allocate(to int64) error {
	if err := f.p.next("allocate"); err != nil {
		return errors.Join(err, f.File.Allocate(to)) // it may have done some of it
	}
	return f.File.Allocate(to)
}

func (f plannedFile) Unmap(b []byte) error {
	if err := f.p.next("unmap"); err != nil {
		return errors.Join(err, f.File.Unmap(b))
	}
	return f.File.Unmap(b)
}

func (f plannedFile) Truncate(n int64) error { return f.File.(truncater).Truncate(n) }

// planned makes a file one of which operations fail.
func planned(o *Options, mapped bool) *plan {
	p := &plan{left: -1, mapped: mapped}
	o.Open = func(path string) (File, error) {
		f, err := OpenFile(path)
		return plannedFile{f, p}, err
	}
	return p
}

// keys is the keys of generations, as a store keeps them: one is given to each call of
// Begin.
type keys struct {
	sealed bool
	given  byte
	of     map[uint32][]byte
}

func (k *keys) find(gen uint32) []byte { return k.of[gen] }

func (k *keys) next(gen uint32) []byte {
	if !k.sealed {
		return nil
	}
	k.given++
	k.of[gen] = secret(k.given)
	return k.of[gen]
}

// Begin leaves the entries that there were, or those that it was given, whichever of its
// operations fails, and so does a process that is killed after that operation. The ring is not
// used after such an error.
func TestBeginOfWhichAnOperationFails(t *testing.T) {
	for kind := range 8 {
		sealed, mapped, unit := kind&1 > 0, kind&2 > 0, []int64{Words, Pages}[kind>>2]
		t.Run(fmt.Sprintf("sealed %t mapped %t unit %d", sealed, mapped, unit), func(t *testing.T) {
			ops := map[string]bool{}
			for n := 1; ; n++ {
				o := options(t)
				k := &keys{sealed: sealed, of: map[uint32][]byte{}}
				o.Key = k.find
				p := planned(&o, mapped)
				r := create(t, o)
				_, err := r.Begin(Mark{}, k.next(2), Words, nil)
				require.NoError(t, err)
				var old []string
				for i := range 30 {
					old = append(old, fmt.Sprintf("old %d %s", i, bytes.Repeat([]byte("o"), i*100)))
					_, ok := r.Note(0, []byte(old[i]))
					require.True(t, ok)
				}
				require.NoError(t, r.Close())
				r = reopen(t, o)
				if n%2 == 0 { // a log reads them before
					got, _ := entries(t, r)
					require.Equal(t, old, got)
				}
				fresh := []string{"new 0", "new 1 " + string(bytes.Repeat([]byte("n"), 3*Page)), "new 2"}
				p.left = n
				_, err = r.Begin(Mark{Base: 7}, k.next(3), unit, [][]byte{[]byte(fresh[0]), []byte(fresh[1]), []byte(fresh[2])})
				failed := p.left <= 0
				p.left = -1
				if !failed {
					require.NoError(t, err)
					got, _ := entries(t, reopen(t, o))
					require.Equal(t, fresh, got)
					break
				}
				ops[p.failed] = true
				require.ErrorIs(t, err, errDisk, "operation %d, %s", n, p.failed)
				require.ErrorIs(t, r.Err(), errDisk)
				_, ok := r.Note(0, []byte("x"))
				require.False(t, ok)
				_, err = r.Begin(Mark{Base: 7}, k.next(3), unit, nil)
				require.ErrorIs(t, err, errDisk)
				k.given-- // it was not used
				k.of[3] = nil
				if sealed {
					k.of[3] = secret(k.given)
				}
				again := reopen(t, o)
				got, _ := entries(t, again)
				if again.Mark().Base == 7 {
					require.Equal(t, fresh, got)
				} else {
					require.Equal(t, old, got, "operation %d, %s", n, p.failed)
				}
				require.NoError(t, again.Close())
			}
			for _, op := range []string{"write", "sync"} {
				require.True(t, ops[op], "%v", ops)
			}
			require.Equal(t, unit == Words, ops["map"] && ops["size"])
		})
	}
}

// A ring of the name that others write is read, and has this program's before anything else is
// written to it, whichever operation fails.
func TestARingOfTheNameBefore(t *testing.T) {
	for n := 1; ; n++ {
		o := options(t)
		p := planned(&o, true)
		r := create(t, o)
		_, err := r.Begin(Mark{}, nil, Words, [][]byte{[]byte("a"), []byte("b")})
		require.NoError(t, err)
		require.NoError(t, r.Close())
		b, err := os.ReadFile(o.Path)
		require.NoError(t, err)
		copy(b[8:], earlierMagic)
		binary.LittleEndian.PutUint64(b, xxhash.Sum64(b[8:Page]))
		require.NoError(t, os.WriteFile(o.Path, b, 0o600))
		_, err = Examine(o.Path)
		require.NoError(t, err)
		r = reopen(t, o)
		got, _ := entries(t, r)
		require.Equal(t, []string{"a", "b"}, got)
		kept, err := os.ReadFile(o.Path)
		require.NoError(t, err)
		require.Equal(t, b, kept, "reading changes nothing")
		p.left = n
		_, err = r.Begin(Mark{Base: 7}, nil, Words, [][]byte{[]byte("c")})
		failed := p.left <= 0
		p.left = -1
		now, rerr := os.ReadFile(o.Path)
		require.NoError(t, rerr)
		if !bytes.Equal(now[Page:], b[Page:]) {
			require.Equal(t, identMagic, string(now[8:16]))
		}
		again := reopen(t, o)
		got, _ = entries(t, again)
		if again.Mark().Base == 7 {
			require.Equal(t, []string{"c"}, got)
		} else {
			require.Equal(t, []string{"a", "b"}, got)
			require.Error(t, err)
		}
		_, err = again.Begin(Mark{Base: 8}, nil, Words, nil)
		require.NoError(t, err)
		if !failed {
			require.Equal(t, identMagic, string(now[8:16]))
			return
		}
	}
}

// A process that was killed in Begin leaves frames of the generation that the next one begins.
// They do not count, also where the next one has written fewer, and are no damage.
func TestWhatACutOffBeginLeavesDoesNotCount(t *testing.T) {
	for _, unit := range []int64{Words, Pages} {
		o := options(t)
		r := create(t, o)
		_, err := r.Begin(Mark{}, nil, unit, [][]byte{[]byte("kept")})
		require.NoError(t, err)
		require.NoError(t, r.Close())
		whole, err := os.ReadFile(o.Path)
		require.NoError(t, err)

		six := [][]byte{[]byte("0"), []byte("1"), []byte("2"), []byte("3"), []byte("4"), []byte("5")}
		r = reopen(t, o)
		_, err = r.Begin(Mark{}, nil, unit, six)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		left, err := os.ReadFile(o.Path)
		require.NoError(t, err)
		copy(left[:firstFrame], whole) // the state was not written
		require.NoError(t, os.WriteFile(o.Path, left, 0o600))

		r = reopen(t, o)
		got, _ := entries(t, r)
		require.Equal(t, []string{"kept"}, got)
		_, err = r.Begin(Mark{}, nil, unit, six[:3])
		require.NoError(t, err)
		got, _ = entries(t, reopen(t, o))
		require.Equal(t, []string{"0", "1", "2"}, got)
	}
}

// The key of a generation that is sealed must be there.
func TestAMissingKey(t *testing.T) {
	o := options(t)
	k := &keys{sealed: true, of: map[uint32][]byte{}}
	o.Key = k.find
	r := create(t, o)
	_, err := r.Begin(Mark{}, k.next(2), Words, [][]byte{[]byte("entry")})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	delete(k.of, 2)
	_, err = Open(o)
	var d *shardlog.DamageError
	require.ErrorAs(t, err, &d)
}

// A file that has become shorter than the ring cannot be written to through a mapping.
func TestAFileThatIsCutIsNotMapped(t *testing.T) {
	o := options(t)
	r := create(t, o)
	got, _ := entries(t, r)
	require.Empty(t, got)
	require.NoError(t, os.Truncate(o.Path, MinSize/2))
	_, err := r.Begin(Mark{}, nil, Words, nil)
	require.ErrorContains(t, err, "bytes")
	_, ok := r.Note(0, []byte("x"))
	require.False(t, ok)
}

// When a ring cannot grow, it is used as before; but not after a failed sync, which may have
// been that of frames.
func TestAGrowthThatFails(t *testing.T) {
	for _, mapped := range []bool{true, false} {
		ops := map[string]bool{}
		for n := 1; ; n++ {
			o := options(t)
			p := planned(&o, mapped)
			r := create(t, o)
			_, err := r.Begin(Mark{}, nil, Words, [][]byte{[]byte("a")})
			require.NoError(t, err)
			p.left = n
			_, err = r.Grow(mostBytes)
			failed := p.left <= 0
			p.left = -1
			_, ok := r.Note(0, []byte("b"))
			require.Equal(t, p.failed != "sync", ok, p.failed)
			want := []string{"a", "b"}
			if !ok {
				want = want[:1]
				require.ErrorIs(t, r.Sync(), errDisk)
			}
			got, _ := entries(t, reopen(t, o))
			require.Equal(t, want, got)
			_, size := r.Use()
			if !failed {
				require.NoError(t, err)
				if mapped {
					require.EqualValues(t, mostBytes-firstFrame, size)
				} else {
					require.EqualValues(t, 2*MinSize-firstFrame, size)
				}
				break
			}
			ops[p.failed] = true
			require.ErrorIs(t, err, errDisk)
			if mapped && p.failed == "sync" {
				continue // it is as large as it was to be, and not used any more
			}
			require.EqualValues(t, MinSize-firstFrame, size)
			fi, err := os.Stat(o.Path)
			require.NoError(t, err)
			require.EqualValues(t, MinSize, fi.Size(), p.failed)
		}
		require.Equal(t, mapped, ops["map"])
		require.Equal(t, mapped, ops["allocate"])
		require.Equal(t, !mapped, ops["write"])
		require.True(t, ops["sync"])
	}
}

// An entry that cannot be written is not acknowledged, and nothing is from then on. The same
// goes for a sync.
func TestUnsyncedEntriesThatFail(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		for n := 1; n < 12; n++ {
			o := options(t)
			k := &keys{sealed: sealed, of: map[uint32][]byte{}}
			o.Key = k.find
			p := planned(&o, false)
			r := create(t, o)
			_, err := r.Begin(Mark{}, k.next(2), Words, nil)
			require.NoError(t, err)
			p.left = n
			var acked []string
			for i := range 20 {
				e := fmt.Sprint("entry ", i)
				if i%5 == 4 {
					if r.Sync() != nil {
						break
					}
					continue
				}
				at, ok := r.NoteBelow([]byte(e), nil)
				if !ok {
					require.Zero(t, at)
					break
				}
				acked = append(acked, e)
			}
			require.ErrorIs(t, r.Err(), errDisk)
			_, ok := r.NoteBelow([]byte("x"), nil)
			require.False(t, ok)
			require.ErrorIs(t, r.Sync(), errDisk)
			require.ErrorIs(t, r.Release(r.End(), Mark{}, false), errDisk)
			got, _ := entries(t, reopen(t, o))
			require.Equal(t, acked, got[:len(acked)])
			require.LessOrEqual(t, len(got), len(acked)+1)
		}
	}
}

// A frame that is larger than what is read in one call may be missing in front of others.
func TestFramesBehindALargeOne(t *testing.T) {
	o := options(t)

	for _, unit := range []int64{Words, Pages} {
		r := create(t, o)
		_, err := r.Begin(Mark{}, nil, unit, nil)
		require.NoError(t, err)
		for n := int64(1); n > 0; {
			n, err = r.Grow(32 << 20)
			require.NoError(t, err)
		}
		add := func(e []byte) kv.Position {
			if unit == Words {
				p, ok := r.Note(0, e)
				require.True(t, ok)
				return p
			}
			p, err := r.Append(0, &kv.Batch{Entry: e})
			require.NoError(t, err)
			return p
		}
		add([]byte("first"))
		// What looks like frames is in it.
		large := bytes.Repeat(frameMagicBytes, 2<<20)
		p := add(large)
		behind := add([]byte("behind"))
		f, err := os.OpenFile(o.Path, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte{1}, p.At+1000)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		var d *shardlog.DamageError
		n := 0
		require.ErrorAs(t, reopen(t, o).Read(false, func(Frame) error { n++; return nil }), &d)
		require.Equal(t, 1, n)
		require.Contains(t, d.Reason, fmt.Sprint(behind.At))
		require.NoError(t, r.Close())
	}
}

// A ring may begin with an entry that ends where the file does.
func TestAnEntryUpToTheEndOfTheFile(t *testing.T) {
	for _, unit := range []int64{Words, Pages} {
		for _, sealed := range []bool{false, true} {
			o := options(t)
			var key []byte
			if sealed {
				key = secret(2)
			}
			o.Key = func(uint32) []byte { return key }
			r := create(t, o)
			for less := range 40 {
				entry := bytes.Repeat([]byte("e"), MinSize-firstFrame-frameHeader-less)
				places, err := r.Begin(Mark{}, key, unit, [][]byte{entry})
				if errors.Is(err, ErrFull) {
					require.True(t, sealed && less < tagSize, "%d bytes are left", less)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, []kv.Position{{Seq: 1, At: firstFrame}}, places)
				again := reopen(t, o)
				got, _ := entries(t, again)
				require.Equal(t, []string{string(entry)}, got)
				// Another ring, because this one is full.
				o = options(t)
				o.Key = func(uint32) []byte { return key }
				r = create(t, o)
			}
		}
	}
}
