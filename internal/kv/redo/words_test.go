package redo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// unmapped is a file that is not mapped.
type unmapped struct{ File }

func (unmapped) Map(int64) ([]byte, error) { return nil, ErrNotMapped }

// sparse is a file whose blocks are allocated later.
type sparse struct{ File }

func (f sparse) Allocate(to int64) error { return f.File.(truncater).Truncate(to) }

// entries reads the entries of a ring.
func entries(t testing.TB, r *Ring) (all []string, places []kv.Position) {
	t.Helper()
	require.NoError(t, r.Read(false, func(f Frame) error {
		require.Empty(t, f.Ops)
		all, places = append(all, string(f.Entry)), append(places, f.At)
		return nil
	}))
	return all, places
}

// What was added and not released is read again by another process, also if the ring
// grew or was begun again meanwhile.
func TestEntriesAgainstAModel(t *testing.T) {
	for n := range 8 {
		sealed, mapped, early := n%2 == 0, n/2%2 == 0, n/4 == 0
		t.Run(fmt.Sprintf("sealed %t mapped %t early %t", sealed, mapped, early), func(t *testing.T) {
			rnd := kvtest.Rand(t)
			o := options(t)
			if early {
				o.TurnRoom = 1 + rnd.Int63n(MinSize/2)
			}
			if !mapped {
				o.Open = func(path string) (File, error) { f, err := OpenFile(path); return unmapped{f}, err }
			}
			keys := map[uint32][]byte{}
			o.Key = func(gen uint32) []byte { return keys[gen] }
			r := create(t, o)
			var live []string
			var places []kv.Position
			anew := func() {
				gen := r.Generation() + 1
				if sealed {
					keys[gen] = secret(byte(gen))
				}
				var all [][]byte
				for _, e := range live {
					all = append(all, []byte(e))
				}
				p, err := r.Begin(Mark{}, keys[gen], Words, all)
				if err == ErrFull {
					return
				}
				require.NoError(t, err)
				require.Len(t, p, len(all))
				places = p
			}
			anew()
			check := func() {
				again := reopen(t, o)
				got, at := entries(t, again)
				require.Equal(t, len(live), len(got))
				for i := range live {
					require.Equal(t, live[i], got[i])
					require.Equal(t, places[i], at[i])
				}
				require.NoError(t, again.Close())
			}
			for i := range 3000 {
				e := fmt.Appendf(nil, "%d %s", i, bytes.Repeat([]byte{byte(i)}, rnd.Intn(1<<rnd.Intn(14))))
				cut := rnd.Intn(len(e))
				var p kv.Position
				var ok bool
				if rnd.Intn(3) == 0 {
					p, ok = r.Note(0, e)
				} else {
					p, ok = r.NoteBelow(e[:cut], e[cut:])
				}
				if ok {
					live, places = append(live, string(e)), append(places, p)
				}
				switch n := rnd.Intn(40); {
				case n == 0 && i > 1500:
					_, err := r.Grow(mostBytes)
					require.NoError(t, err)
				case n == 1 && rnd.Intn(10) == 0:
					anew()
				case n < 4 && len(live) > 0:
					keep := rnd.Intn(len(live))
					require.NoError(t, r.Release(places[keep], Mark{}, n == 2))
					live, places = live[keep:], places[keep:]
				case !ok && len(live) > 0:
					require.NoError(t, r.Release(r.End(), Mark{}, false))
					live, places = nil, nil
				case n == 5 && rnd.Intn(5) == 0:
					check()
				}
			}
			require.NoError(t, r.Sync())
			check()
			require.NoError(t, r.Close())
			_, ok := r.Note(0, []byte("x"))
			require.False(t, ok)
			require.ErrorIs(t, r.Sync(), shardlog.ErrClosed)
		})
	}
}

// A ring of which little is in use takes few pages of its file, however much is written.
func TestARingStaysSmall(t *testing.T) {
	o := options(t)
	o.TurnRoom = 64 << 10
	r := create(t, o)
	_, err := r.Grow(4 * MinSize)
	require.NoError(t, err)
	_, err = r.Begin(Mark{}, nil, Words, nil)
	require.NoError(t, err)
	var places []kv.Position
	most := int64(0)
	frame := int64(0)
	add := func() {
		p, ok := r.NoteBelow(make([]byte, 1000))
		require.True(t, ok)
		places = append(places, p)
		most = max(most, p.At)
		used, _ := r.Use()
		if frame == 0 {
			frame = used
		}
		require.Equal(t, int64(len(places))*frame, used, "no byte is lost between two laps")
		require.Equal(t, used, r.Before(r.End()))
		require.Equal(t, used-frame, r.Before(p))
	}
	for range 5000 {
		add()
		if len(places) > 20 { // 21 kB in use
			require.NoError(t, r.Release(places[10], Mark{}, false))
			places = places[10:]
		}
	}
	require.Less(t, most, int64(192<<10))
	used, _ := r.Use()
	require.Less(t, used, int64(32<<10))
	// What is in use grows: then so does what is taken.
	for range 300 {
		add()
	}
	require.Greater(t, most, int64(300<<10))
	places = places[len(places)-1:]
	require.NoError(t, r.Release(places[0], Mark{}, false))
	add()
	require.Less(t, places[len(places)-1].At, most)
}

// The size of the file that the state names is on disk: after a crash of the system a
// larger file may be as small as it was, with what was synced.
func TestACrashAfterTheRingGrew(t *testing.T) {
	o := options(t)
	o.Open = func(path string) (File, error) { f, err := OpenFile(path); return sparse{f}, err }
	r := create(t, o)
	_, err := r.Begin(Mark{}, nil, Words, nil)
	require.NoError(t, err)
	_, ok := r.Note(0, []byte("synced"))
	require.True(t, ok)
	require.NoError(t, r.Sync())
	require.NoError(t, r.f.Allocate(allocLeast))
	require.NoError(t, r.take(allocLeast, false)) // Grow, but for the sync
	require.NoError(t, r.Release(r.Start(), Mark{Base: 1}, false))
	b, err := os.ReadFile(o.Path)
	require.NoError(t, err)
	crashed := o
	crashed.Path += ".crashed"
	require.NoError(t, os.WriteFile(crashed.Path, b[:MinSize], 0o600))
	got, _ := entries(t, reopen(t, crashed))
	require.Equal(t, []string{"synced"}, got)

	_, ok = r.Note(0, []byte("synced as well"))
	require.True(t, ok)
	require.NoError(t, r.Sync())
	require.EqualValues(t, allocLeast, r.sized, "and with it the size")
	require.NoError(t, r.f.Allocate(2*allocLeast))
	require.NoError(t, r.take(2*allocLeast, false))
	for range 60 { // beyond the size that is on disk
		p, ok := r.NoteBelow(make([]byte, 100_000))
		require.True(t, ok)
		require.NoError(t, r.Release(p, Mark{Base: 1}, false))
	}
	require.EqualValues(t, 2*allocLeast, r.sized, "a place that may not be there is not named before it is")
	require.NoError(t, r.Close())
	_, places := entries(t, reopen(t, o))
	require.Len(t, places, 1)
}

// A ring that has begun again early, with little room in front of it, notices when that is used
// up, leaves those who commit a quarter of it, and can be read and begun by another process.
func TestAShortLap(t *testing.T) {
	o := options(t)
	o.TurnRoom = 64 << 10
	filled := 0
	o.Filling = func() { filled++ }
	r := create(t, o)
	_, err := r.Grow(4 * MinSize)
	require.NoError(t, err)
	_, err = r.Begin(Mark{}, nil, Words, nil)
	require.NoError(t, err)
	e := func(i int) string { return fmt.Sprintf("%01000d", i) }
	var want []string
	var places []kv.Position
	i := 0
	add := func() bool {
		p, ok := r.NoteBelow([]byte(e(i)))
		if ok {
			want, places = append(want, e(i)), append(places, p)
			i++
		}
		return ok
	}
	for !r.wrapped() {
		require.True(t, add())
		if len(want) > 5 {
			require.NoError(t, r.Release(places[1], Mark{}, false))
			want, places = want[1:], places[1:]
		}
	}
	for add() {
	}
	used, most := r.Use()
	require.InDelta(t, most/4*3, used, 2000)
	require.Less(t, most, int64(MinSize))
	require.Equal(t, 1, filled)
	require.True(t, r.KeepFor(int(most)/8))
	require.Zero(t, r.GrowsTo(mostBytes), "that would be of no use")

	again := reopen(t, o)
	got, _ := entries(t, again)
	require.Equal(t, want, got)
	var all [][]byte
	for _, e := range got {
		all = append(all, []byte(e))
	}
	_, err = again.Begin(Mark{}, nil, Words, all)
	require.NoError(t, err, "behind the lap there is room for all that")
	got, _ = entries(t, reopen(t, o))
	require.Equal(t, want, got)
}

// A large frame in a ring that was empty takes all that is before its end.
func TestALargeFrameTakesWhatIsBefore(t *testing.T) {
	r := create(t, options(t))
	_, err := r.Begin(Mark{}, nil, Words, nil)
	require.NoError(t, err)
	for range 2 {
		_, ok := r.Note(0, make([]byte, MinSize/3))
		require.True(t, ok)
	}
	require.NoError(t, r.Release(r.End(), Mark{}, false))
	_, ok := r.Note(0, make([]byte, MinSize*4/5))
	require.True(t, ok)
	used, most := r.Use()
	require.Equal(t, most, used)
	require.Equal(t, r.End().At-firstFrame, used)
	_, ok = r.Note(0, []byte("one more"))
	require.False(t, ok)
}

// A ring that is full in a short lap can be begun again behind it, and grows for that. (Frames
// that are sealed are as large as they may be, so that they fill it to the last byte.)
func TestAFullShortLapIsBegunBehindIt(t *testing.T) {
	for _, large := range []bool{true, false} {
		o := options(t)
		o.TurnRoom = 64 << 10
		k := &keys{sealed: true, of: map[uint32][]byte{}}
		o.Key = k.find
		r := create(t, o)
		if large {
			_, err := r.Grow(4 * MinSize)
			require.NoError(t, err)
		}
		begin := func(all [][]byte) error {
			_, err := r.Begin(Mark{}, k.next(r.Generation()+1), Words, all)
			return err
		}
		require.NoError(t, begin(nil))
		var places []kv.Position
		var want []string
		for i := 0; ; i++ {
			e := fmt.Sprintf("%01000d", i)
			p, ok := r.Note(0, []byte(e))
			if !ok {
				break
			}
			places, want = append(places, p), append(want, e)
			if !r.wrapped() && len(places) > 5 {
				require.NoError(t, r.Release(places[1], Mark{}, false))
				places, want = places[1:], want[1:]
			}
		}
		require.True(t, r.full)
		require.Zero(t, r.GrowsTo(mostBytes), "that would be of no use")
		require.NoError(t, r.Close())

		r = reopen(t, o)
		got, _ := entries(t, r)
		require.Equal(t, want, got)
		var all [][]byte
		for _, e := range want {
			all = append(all, []byte(e))
		}
		if !large { // what is to be kept is too much
			for range 120 {
				all, want = append(all, all[0]), append(want, want[0])
			}
			require.ErrorIs(t, begin(all), ErrFull)
			_, err := r.Grow(4 * MinSize)
			require.NoError(t, err)
		}
		require.NoError(t, begin(all))
		got, _ = entries(t, reopen(t, o))
		require.Equal(t, want, got)
	}
}

// What is sealed is in the file in no other way.
func TestSealedEntriesAreNotInTheFile(t *testing.T) {
	o := options(t)
	o.Key = always(secret(3))
	r := create(t, o)
	_, err := r.Begin(Mark{}, secret(3), Words, [][]byte{[]byte("the first entry")})
	require.NoError(t, err)
	_, ok := r.Note(0, []byte("another entry"))
	require.True(t, ok)
	b, err := os.ReadFile(o.Path)
	require.NoError(t, err)
	require.NotContains(t, string(b), "entry")
	got, _ := entries(t, reopen(t, o))
	require.Equal(t, []string{"the first entry", "another entry"}, got)
}

// A frame that was not written whole ends the ring. Others behind it are damage, unless
// the system was started again meanwhile. That frames are missing which were there when
// the store was closed in order is always.
func TestLostEntries(t *testing.T) {
	o := options(t)
	r := create(t, o)
	_, err := r.Begin(Mark{}, nil, Words, nil)
	require.NoError(t, err)
	var places []kv.Position
	for i := range 9 {
		p, ok := r.Note(0, fmt.Appendf(nil, "entry %d", i))
		require.True(t, ok)
		places = append(places, p)
	}
	whole, err := os.ReadFile(o.Path)
	require.NoError(t, err)
	read := func(b []byte, lost bool) (n int, err error) {
		require.NoError(t, os.WriteFile(o.Path, b, 0o600))
		return n, reopen(t, o).Read(lost, func(f Frame) error { n++; return nil })
	}
	var d *shardlog.DamageError
	for i, p := range places {
		for _, offset := range []int64{0, 8, 20, 36, 41} {
			b := bytes.Clone(whole)
			b[p.At+offset] ^= 1
			n, err := read(b, true)
			require.NoError(t, err)
			require.Equal(t, i, n)
			n, err = read(b, false)
			require.Equal(t, i, n)
			if i == 8 {
				require.NoError(t, err)
			} else {
				require.ErrorAs(t, err, &d)
				require.Equal(t, p.At, d.Offset)
			}
		}
	}
	require.NoError(t, os.WriteFile(o.Path, whole, 0o600))
	require.NoError(t, r.Release(places[2], Mark{Clean: true, Last: 9}, true))
	whole, err = os.ReadFile(o.Path)
	require.NoError(t, err)
	n, err := read(whole, true)
	require.NoError(t, err)
	require.Equal(t, 7, n)
	whole[places[8].At+41] ^= 1
	_, err = read(whole, true)
	require.ErrorAs(t, err, &d)
}

// Begin needs room for what it keeps in addition to what is there, and otherwise leaves
// the ring as it was.
func TestBeginWithoutRoom(t *testing.T) {
	o := options(t)
	r := create(t, o)
	_, err := r.Begin(Mark{}, nil, Words, nil)
	require.NoError(t, err)
	big := make([]byte, MinSize/3)
	_, ok := r.Note(0, big)
	require.True(t, ok)
	_, err = r.Begin(Mark{Base: 7}, nil, Pages, [][]byte{big, big})
	require.ErrorIs(t, err, ErrFull)
	require.Zero(t, r.Mark().Base)
	got, _ := entries(t, reopen(t, o))
	require.Len(t, got, 1)
	_, ok = r.Note(0, []byte("more"))
	require.True(t, ok, "it is used as before")
	_, err = r.Begin(Mark{Base: 7}, nil, Pages, [][]byte{big})
	require.NoError(t, err)
	_, ok = r.Note(0, []byte("more"))
	require.False(t, ok, "each frame is synced")
	p, err := r.Append(0, &kv.Batch{Entry: []byte("one more")})
	require.NoError(t, err)
	require.Zero(t, p.At%Page)
	got, _ = entries(t, reopen(t, o))
	require.Equal(t, []string{string(big), "one more"}, got)
}

// The room that was found for a frame is there until it is written, whatever is added
// meanwhile, wherever in the ring that is.
func TestRoomIsKept(t *testing.T) {
	rnd := kvtest.Rand(t)
	o := options(t)
	o.TurnRoom = 1 + rnd.Int63n(MinSize)
	r := create(t, o)
	_, err := r.Begin(Mark{}, nil, Words, nil)
	require.NoError(t, err)
	var places []kv.Position
	kept := 0
	for i := range 4000 {
		large := rnd.Intn(MinSize * 2 / 3)
		if r.KeepFor(large) {
			for range rnd.Intn(60) {
				p, ok := r.NoteBelow(nil, make([]byte, rnd.Intn(9000)))
				if !ok {
					break
				}
				places = append(places, p)
			}
			p, ok := r.Note(0, make([]byte, large))
			require.True(t, ok, "frame %d of %d bytes", i, large)
			places = append(places, p)
			kept++
		}
		if n := rnd.Intn(len(places) + 1); n < len(places) {
			require.NoError(t, r.Release(places[n], Mark{}, false))
			places = places[n:]
		}
	}
	require.Greater(t, kept, 200)
}

// A ring is synced for frames that are not on disk yet, and its state is written when it says
// something else.
func TestWhatIsOnDiskIsNotSyncedAgain(t *testing.T) {
	o := options(t)
	syncs := 0
	o.Open = func(path string) (File, error) {
		f, err := OpenFile(path)
		return countedFile{f, &syncs}, err
	}
	r := create(t, o)
	m := Mark{Base: 1}
	_, err := r.Begin(m, nil, Words, [][]byte{[]byte("a")})
	require.NoError(t, err)
	count := func(want int, f func() error) {
		t.Helper()
		before := syncs
		require.NoError(t, f())
		require.Equal(t, want, syncs-before)
	}
	count(0, r.Sync)
	count(0, func() error { return r.Release(r.Start(), m, true) })
	_, ok := r.Note(0, []byte("b"))
	require.True(t, ok)
	count(1, r.Sync)
	count(0, r.Sync)
	count(1, func() error { return r.Release(r.End(), m, true) })
	count(0, func() error { return r.Release(r.End(), m, true) })
	m.Base++
	count(0, func() error { return r.Release(r.End(), m, false) })
	count(1, func() error { return r.Release(r.End(), m, true) }) // that one was not synced
	_, ok = r.Note(0, []byte("c"))
	require.True(t, ok)
	m.Base++
	count(1, func() error { return r.Release(r.Start(), m, true) })
	count(0, r.Sync)
}

// countedFile counts syncs.
type countedFile struct {
	File
	syncs *int
}

func (f countedFile) Sync() error {
	*f.syncs++
	return f.File.Sync()
}

// Frames may be added while the ring is made larger, synced, given back and closed: no memory
// is written to that is not mapped any more.
func TestFramesWhileTheRingIsRemappedAndClosed(t *testing.T) {
	for range 20 {
		o := options(t)
		r := create(t, o)
		_, err := r.Begin(Mark{}, nil, Words, nil)
		require.NoError(t, err)
		var writers sync.WaitGroup
		for range 2 {
			writers.Go(func() {
				for !errors.Is(r.Err(), shardlog.ErrClosed) {
					if _, ok := r.NoteBelow(make([]byte, 3000), nil); !ok {
						runtime.Gosched()
					}
				}
			})
		}
		for range 4 {
			_, err := r.Grow(8 * MinSize)
			require.NoError(t, err)
			require.NoError(t, r.Sync())
			require.NoError(t, r.Release(r.End(), Mark{}, false))
		}
		require.NoError(t, r.Close())
		writers.Wait()
		_, ok := r.NoteBelow([]byte("late"), nil)
		require.False(t, ok)
		all, _ := entries(t, reopen(t, o))
		require.NotContains(t, all, "late")
	}
}
