package redo

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

var testID = ID{1, 2, 3}

// mostBytes is how large rings become here.
const mostBytes = 2 << 20

func options(t *testing.T) Options {
	return Options{Path: filepath.Join(t.TempDir(), "REDO"), ID: testID}
}

func create(t *testing.T, o Options) *Ring {
	t.Helper()
	r, err := Create(o)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func reopen(t *testing.T, o Options) *Ring {
	t.Helper()
	r, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func batch(n int, values ...[]byte) *kv.Batch {
	b := &kv.Batch{}
	for i, v := range values {
		b.Set(fmt.Appendf(nil, "key %d of %d", i, n), v)
	}
	b.Delete(fmt.Appendf(nil, "deleted by %d", n))
	return b
}

func put(t *testing.T, r *Ring, version uint64, b *kv.Batch) {
	t.Helper()
	require.True(t, r.Fits(b))
	_, err := r.Append(version, b)
	require.NoError(t, err)
}

// versions reads a ring, and compares each batch with what was appended.
func versions(t *testing.T, r *Ring, want map[uint64]*kv.Batch) (got []uint64) {
	t.Helper()
	require.NoError(t, r.Read(false, func(f Frame) error {
		got = append(got, f.Version)
		requireOps(t, want[f.Version].Ops, f.Ops)
		return nil
	}))
	return got
}

func requireOps(t *testing.T, want, got []kv.Op) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i].Delete, got[i].Delete)
		require.Equal(t, string(want[i].Key), string(got[i].Key))
		require.True(t, bytes.Equal(want[i].Value, got[i].Value))
	}
}

// framed returns how many bytes the frame of a batch takes.
func framed(r *Ring, b *kv.Batch) int64 { return int64(roundUp(batchBytes(b), r.unit)) }

func begin(t testing.TB, r *Ring, m Mark, key []byte) {
	t.Helper()
	_, err := r.Begin(m, key, Pages, nil)
	require.NoError(t, err)
}

// always is a key for all generations.
func always(key []byte) func(uint32) []byte { return func(uint32) []byte { return key } }

func secret(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// What was appended and not released is read again, whatever was appended,
// released and grown in which order.
func TestRingAgainstAModel(t *testing.T) {
	for _, key := range [][]byte{nil, secret(1)} {
		rnd := kvtest.Rand(t)
		o := options(t)
		o.Key = always(key)
		r := create(t, o)
		want := map[uint64]*kv.Batch{}
		var live []uint64
		version := uint64(0)
		check := func(o Options) {
			again := reopen(t, o)
			require.True(t, slices.Equal(live, versions(t, again, want)))
			require.NoError(t, again.Close())
		}
		positions := map[uint64]kv.Position{}
		release := func(n int) {
			last := live[n-1]
			require.NoError(t, r.Release(positions[last], Mark{Base: last, File: 7, Offset: int64(n)}, true))
			live = live[n:]
			require.Equal(t, last, r.Mark().Base)
		}
		for range 600 {
			version++
			b := batch(int(version), random(rnd, rnd.Intn(1<<rnd.Intn(17))), random(rnd, rnd.Intn(50)))
			for {
				used, size := r.Use()
				require.LessOrEqual(t, used, size)
				if _, ok := r.place(framed(r, b)); ok {
					break
				}
				require.NotEmpty(t, live, "an empty ring has no room")
				if rnd.Intn(8) == 0 {
					_, err := r.Grow(mostBytes)
					require.NoError(t, err)
					continue
				}
				release(1 + rnd.Intn(len(live)))
			}
			put(t, r, version, b)
			want[version] = b
			live = append(live, version)
			positions[version] = r.End()
			if rnd.Intn(20) == 0 {
				release(1 + rnd.Intn(len(live)))
			}
			if rnd.Intn(10) == 0 {
				check(o)
			}
		}
		check(o)
		if len(live) > 0 {
			release(len(live))
		}
		check(o)
	}
}

func random(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	rnd.Read(b)
	return b
}

// A ring that was emptied has no frame of before, and another key from then on.
func TestResetEmptiesTheRing(t *testing.T) {
	o := options(t)
	o.Key = always(secret(1))
	r := create(t, o)
	want := map[uint64]*kv.Batch{}
	for v := uint64(1); v <= 5; v++ {
		want[v] = batch(int(v), []byte("before"))
		put(t, r, v, want[v])
	}
	require.NoError(t, r.NoteLimit(77))
	require.Equal(t, uint64(77), reopen(t, o).Mark().Limit)
	begin(t, r, Mark{Base: 5, Clean: true}, secret(2))
	again := reopen(t, o)
	require.Equal(t, Mark{Base: 5, Clean: true}, again.Mark())
	require.Empty(t, versions(t, again, want))
	want[6] = batch(6, []byte("after"))
	put(t, r, 6, want[6])
	o.Key = always(secret(2))
	require.Equal(t, []uint64{6}, versions(t, reopen(t, o), want))
	o.Key = always(secret(1))
	var d *shardlog.DamageError
	require.ErrorAs(t, reopen(t, o).Read(false, func(Frame) error { return nil }), &d)
	b, err := os.ReadFile(o.Path)
	require.NoError(t, err)
	require.NotContains(t, string(b), "after", "it is not encrypted")
}

// A frame that was not written whole ends the ring. One that was, and can no longer
// be read, is damage: what follows it shows that it was.
func TestTornAndDamagedFrames(t *testing.T) {
	o := options(t)
	r := create(t, o)
	want := map[uint64]*kv.Batch{}
	at := map[uint64]int64{}
	for v := uint64(1); v <= 9; v++ {
		want[v] = batch(int(v), bytes.Repeat([]byte{byte(v)}, 10_000))
		at[v] = r.End().At
		put(t, r, v, want[v])
	}
	whole, err := os.ReadFile(o.Path)
	require.NoError(t, err)
	for v := uint64(1); v <= 9; v++ {
		for _, offset := range []int64{0, 8, 20, 36, 47, 48, 5000, 9_000} {
			b := bytes.Clone(whole)
			b[at[v]+offset] ^= 1
			require.NoError(t, os.WriteFile(o.Path, b, 0o600))
			var got []uint64
			err := reopen(t, o).Read(false, func(f Frame) error { got = append(got, f.Version); return nil })
			if v == 9 {
				require.NoError(t, err)
			} else {
				var d *shardlog.DamageError
				require.ErrorAs(t, err, &d)
				require.Equal(t, at[v], d.Offset)
				require.ErrorIs(t, err, shardlog.ErrCorrupt)
			}
			require.Len(t, got, int(v)-1)
		}
	}
}

// The state is in one of two pages. What a write that was cut off leaves of one does
// not matter; if both are damaged the ring is refused, as is one that is not the
// store's, missing or cut short.
func TestHeadOfTheFile(t *testing.T) {
	o := options(t)
	r := create(t, o)
	b := batch(1, []byte("x"))
	put(t, r, 1, b)
	before := r.End()
	put(t, r, 2, b)
	require.NoError(t, r.Release(before, Mark{Base: 1}, true))
	whole, err := os.ReadFile(o.Path)
	require.NoError(t, err)
	try := func(o Options, change func(b []byte) []byte) (Mark, error) {
		require.NoError(t, os.WriteFile(o.Path, change(bytes.Clone(whole)), 0o600))
		r, err := Open(o)
		if err != nil {
			return Mark{}, err
		}
		defer r.Close()
		return r.Mark(), nil
	}
	flip := func(at ...int) func([]byte) []byte {
		return func(b []byte) []byte {
			for _, i := range at {
				b[i] ^= 1
			}
			return b
		}
	}
	m, err := try(o, flip())
	require.NoError(t, err)
	require.Equal(t, uint64(1), m.Base)
	m, err = try(o, flip(2*Page+30))
	require.NoError(t, err)
	require.Zero(t, m.Base, "the state before")
	m, err = Examine(o.Path)
	require.NoError(t, err)
	require.Zero(t, m.Base)
	other := o
	other.ID[0]++
	for name, c := range map[string]func() error{
		"both":      func() error { _, err := try(o, flip(Page+30, 2*Page+30)); return err },
		"identity":  func() error { _, err := try(o, flip(20)); return err },
		"foreign":   func() error { _, err := try(other, flip()); return err },
		"cut short": func() error { _, err := try(o, func(b []byte) []byte { return b[:len(b)/2] }); return err },
		"empty":     func() error { _, err := try(o, func(b []byte) []byte { return nil }); return err },
	} {
		var d *shardlog.DamageError
		require.ErrorAs(t, c(), &d, name)
		require.Equal(t, o.Path, d.Path)
	}
	_, err = try(o, func(b []byte) []byte { return append(append(b[:8:8], "SLREDO09"...), b[16:]...) })
	require.ErrorIs(t, err, shardlog.ErrVersion)
	require.NoError(t, os.Remove(o.Path))
	_, err = Open(o)
	var d *shardlog.DamageError
	require.ErrorAs(t, err, &d)
	require.NoFileExists(t, o.Path, "opening makes no file")
}

// faultyFile fails the n-th write or sync.
type faultyFile struct {
	File
	left *int
}

var errDisk = errors.New("input/output error")

func (f faultyFile) fails() bool {
	*f.left--
	return *f.left < 0
}

func (f faultyFile) WriteAt(b []byte, at int64) (int, error) {
	if f.fails() {
		return 0, errDisk
	}
	return f.File.WriteAt(b, at)
}

func (f faultyFile) Sync() error {
	if f.fails() {
		return errDisk
	}
	return f.File.Sync()
}

// After a write or a sync has failed nothing is written any more, and nobody waits
// for room.
func TestFailedWrites(t *testing.T) {
	for n := range 40 {
		o := options(t)
		left := n
		o.Open = func(path string) (File, error) {
			f, err := OpenFile(path)
			return faultyFile{f, &left}, err
		}
		r, err := Create(o)
		if err != nil {
			require.ErrorIs(t, err, errDisk)
			require.NoFileExists(t, o.Path)
			continue
		}
		want := map[uint64]*kv.Batch{}
		acked := []uint64{}
		for v := uint64(1); ; v++ {
			want[v] = batch(int(v), []byte("x"))
			if !r.Fits(want[v]) {
				err = r.Release(r.End(), Mark{Base: v - 1}, true)
				require.Error(t, err)
				break
			}
			if _, err = r.Append(v, want[v]); err != nil {
				break
			}
			acked = append(acked, v)
			if v == 5 {
				acked = acked[:0] // the store has them
				if err = r.Release(r.End(), Mark{Base: v}, true); err != nil {
					break
				}
			}
			if v%4 == 3 {
				if _, err = r.Grow(mostBytes); err != nil {
					require.ErrorIs(t, err, errDisk)
				}
			}
		}
		require.ErrorIs(t, err, errDisk)
		require.False(t, r.Fits(want[1]))
		_, err = r.Append(99, want[1])
		require.ErrorIs(t, err, errDisk)
		require.ErrorIs(t, r.Release(r.End(), Mark{Base: 99}, true), errDisk)
		require.NoError(t, r.Close())
		o.Open = nil
		got := versions(t, reopen(t, o), want)
		require.GreaterOrEqual(t, len(got), len(acked))
		require.True(t, slices.Equal(acked, got[:len(acked)]))
	}
}

// There is room when pages are released or added, and none in a ring that is closed.
func TestFits(t *testing.T) {
	o := options(t)
	filled := 0
	o.Filling = func() { filled++ }
	r := create(t, o)
	_, err := r.Begin(Mark{}, nil, Pages, nil)
	require.NoError(t, err)
	b := batch(1, make([]byte, MinSize/4))
	v := uint64(0)
	fill := func() {
		for r.Fits(b) {
			v++
			put(t, r, v, b)
		}
	}
	fill()
	require.Equal(t, 1, filled)
	require.NoError(t, r.Release(r.End(), Mark{Base: v}, true))
	require.True(t, r.Fits(b))
	fill()
	require.Equal(t, 2, filled)
	n, err := r.Grow(mostBytes)
	require.NoError(t, err)
	require.Equal(t, int64(MinSize), n)
	n, err = r.Grow(mostBytes)
	require.NoError(t, err)
	require.Zero(t, n, "more would be no help before the ring begins again")
	require.NoError(t, r.Release(r.End(), Mark{Base: v}, true))
	for {
		n, err := r.Grow(mostBytes)
		require.NoError(t, err)
		if n == 0 {
			break
		}
	}
	require.NoError(t, r.Release(r.End(), Mark{Base: v}, true))
	require.True(t, r.Fits(b))
	require.NoError(t, r.Close())
	require.False(t, r.Fits(b))
	_, err = r.Append(v+1, b)
	require.ErrorIs(t, err, shardlog.ErrClosed)
	fi, err := os.Stat(o.Path)
	require.NoError(t, err)
	require.Equal(t, int64(mostBytes), fi.Size())
}

// A frame of more than half the ring, which goes to the beginning of a ring that is
// empty and of which the state names a place in the middle, is not written over by the
// ones behind it before it is released.
func TestALargeFrameGoesToTheBeginning(t *testing.T) {
	o := options(t)
	r := create(t, o)
	begin(t, r, Mark{}, nil)
	want := map[uint64]*kv.Batch{}
	version := uint64(0)
	next := func(pages int) (ok bool) {
		b := batch(int(version), make([]byte, (pages-1)*Page))
		r.mu.Lock()
		_, ok = r.place(framed(r, b))
		r.mu.Unlock()
		if ok {
			version++
			want[version] = b
			put(t, r, version, b)
		}
		return ok
	}
	require.True(t, next(30))
	require.NoError(t, r.Release(r.End(), Mark{Base: version}, true))
	stale := r.End()
	require.True(t, next(40))
	for range 2 {
		for next(4) {
		}
		require.Equal(t, []uint64{2}, versions(t, reopen(t, o), want))
		// What was noted before the frame gives back nothing.
		require.NoError(t, r.Release(stale, Mark{Base: 1}, true))
	}
	require.NoError(t, r.Release(r.End(), Mark{Base: version}, true))
	require.True(t, next(10))
	require.Equal(t, []uint64{3}, versions(t, reopen(t, o), want))
}

// shortDisk is a file on a disk that is full behind a place.
type shortDisk struct {
	*os.File
	room *int64
}

func (d shortDisk) WriteAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > *d.room {
		n, err := d.File.WriteAt(b[:max(0, *d.room-at)], at)
		return n, errors.Join(err, errFull)
	}
	return d.File.WriteAt(b, at)
}

func (d shortDisk) Size() (int64, error)      { return fileSize(d.File) }
func (d shortDisk) Map(int64) ([]byte, error) { return nil, ErrNotMapped }
func (d shortDisk) Unmap([]byte) error        { return nil }
func (d shortDisk) Allocate(int64) error      { return ErrNotMapped }

var errFull = errors.New("no space left")

// What was written until the disk was full is given back.
func TestGrowOnAFullDisk(t *testing.T) {
	o := options(t)
	room := int64(2*MinSize - Page)
	o.Open = func(path string) (File, error) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		return shortDisk{f, &room}, err
	}
	r := create(t, o)
	begin(t, r, Mark{}, nil)
	_, err := r.Grow(mostBytes)
	require.ErrorIs(t, err, errFull)
	fi, err := os.Stat(o.Path)
	require.NoError(t, err)
	require.EqualValues(t, MinSize, fi.Size())
	want := map[uint64]*kv.Batch{1: batch(1, []byte("value"))}
	put(t, r, 1, want[1])
	require.Equal(t, []uint64{1}, versions(t, reopen(t, o), want))
	room = 2 * MinSize
	n, err := r.Grow(mostBytes)
	require.NoError(t, err)
	require.EqualValues(t, MinSize, n)
}

// A file that was cut where it had grown is damaged, also if frames seem to end there.
func TestAFileThatWasCutAfterItGrew(t *testing.T) {
	o := options(t)
	r := create(t, o)
	_, err := r.Begin(Mark{}, nil, Words, nil)
	require.NoError(t, err)
	n, err := r.Grow(2 * MinSize)
	require.NoError(t, err)
	require.EqualValues(t, MinSize, n)
	for range MinSize >> 10 {
		_, ok := r.Note(0, make([]byte, 1<<10))
		require.True(t, ok)
	}
	require.NoError(t, r.Release(r.Start(), Mark{}, false)) // as when something is given back
	require.NoError(t, r.Close())
	require.NoError(t, os.Truncate(o.Path, MinSize+Page))
	_, err = Open(o)
	var d *shardlog.DamageError
	require.ErrorAs(t, err, &d)
	frames := 0
	require.NoError(t, Salvage(o, func(Frame) error { frames++; return nil }))
	require.Greater(t, frames, 200)
}

// The last frame that was synced is damaged if its header is there and the rest is not, as
// long as the system has run: a kill does not divide a page.
func TestTheLastFrameIsSpoiled(t *testing.T) {
	o := options(t)
	r := create(t, o)
	b := batch(1, []byte("x"))
	put(t, r, 1, b)
	last := r.End()
	put(t, r, 2, b)
	require.NoError(t, r.Close())
	whole, err := os.ReadFile(o.Path)
	require.NoError(t, err)
	whole[last.At+frameHeader] ^= 1
	require.NoError(t, os.WriteFile(o.Path, whole, 0o600))
	for _, crashed := range []bool{false, true} {
		r, err := Open(o)
		require.NoError(t, err)
		frames := 0
		err = r.Read(crashed, func(Frame) error { frames++; return nil })
		require.Equal(t, 1, frames)
		if crashed {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, shardlog.ErrCorrupt)
		}
		require.NoError(t, r.Close())
	}
}
