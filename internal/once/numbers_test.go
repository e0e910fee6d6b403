package once

import (
	"math"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// TestMergeNumbers compares with a map.
func TestMergeNumbers(t *testing.T) {
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewSource(seed))
	random := func() (list []numbered) {
		for n := range uint64(r.Intn(20)) {
			if r.Intn(2) == 0 {
				list = append(list, numbered{n, shardlog.NewSequenceNumber(1, 0, r.Uint64()>>8, 1)})
			}
		}
		return list
	}
	for range 1000 {
		list, more, done := random(), random(), uint64(r.Intn(20))
		want := map[uint64]shardlog.SequenceNumber{}
		for _, l := range [][]numbered{list, more} { // the later one counts
			for _, n := range l {
				if n.number >= done {
					want[n.number] = n.seq
				}
			}
		}
		before := slices.Clone(list)
		got := mergeNumbers(list[:len(list):len(list)], more, done)
		require.Equal(t, before, list, "seed %d", seed)
		require.True(t, slices.IsSortedFunc(got, compareNumbers), "seed %d", seed)
		require.Len(t, got, len(want), "seed %d", seed)
		for n := range uint64(21) {
			seq, ok := findNumber(got, n)
			_, wanted := want[n]
			require.Equal(t, wanted, ok, "seed %d, number %d", seed, n)
			require.Equal(t, want[n], seq, "seed %d, number %d", seed, n)
		}
	}
}

func TestReservedNumbersMeet(t *testing.T) {
	r := reservedNumbers{numbers: []uint64{3, 5, 9}}
	for _, c := range []struct {
		numbers []uint64
		meets   bool
	}{{nil, false}, {[]uint64{1, 2}, false}, {[]uint64{10}, false}, {[]uint64{4, 6}, false}, {[]uint64{1, 5, 20}, true}, {[]uint64{9}, true}, {[]uint64{3}, true}} {
		require.Equal(t, c.meets, r.meets(c.numbers), "%v", c.numbers)
	}
}

// A reservation ends when the last of it is released, and not before.
func TestReservationEndsWithItsLastPart(t *testing.T) {
	r := newReservation()
	r.add(2)
	r.add(1)
	r.release(2)
	select {
	case <-r.done:
		t.Fatal("a part is left")
	default:
	}
	r.release(1)
	<-r.done
}

func TestIDTable(t *testing.T) {
	table := idTable{limit: 3, pending: map[idKey]pendingID{}}
	const window = 100 * time.Millisecond
	place := func(ms int64) idPlace { return idPlace{shardlog.NewSequenceNumber(1, 0, uint64(ms), 1), ms} }
	for _, ms := range []int64{1000, 1040, 1060} {
		table.insert(idKey{uint64(ms)}, place(ms), window)
	}
	require.Len(t, table.ages, 2, "half of the window each")
	_, found := table.find(idKey{1000}, 999)
	require.True(t, found)
	_, found = table.find(idKey{1000}, 1000)
	require.False(t, found, "out of the window")
	st := &Stream{Name: "s"}
	require.NoError(t, table.room(st, 999))
	table.pending[idKey{1}] = pendingID{}
	err := table.room(st, 999)
	require.ErrorIs(t, err, shardlog.ErrThroughputExceeded)
	require.NoError(t, table.room(st, 1040), "the first part is dropped")
	require.Equal(t, 1, table.n)
	require.EqualValues(t, 1060, table.prune(1050, math.MaxInt64))
}

// IDs of a time when the clock was ahead are dropped with those that came after.
func TestIDTableAfterTheClockWasAhead(t *testing.T) {
	table := idTable{limit: 10, pending: map[idKey]pendingID{}}
	const window = time.Minute
	ahead := (40 * 365 * 24 * time.Hour).Milliseconds()
	for _, ms := range []int64{ahead, 1000, 2000} {
		table.insert(idKey{uint64(ms)}, idPlace{ms: ms}, window)
	}
	require.EqualValues(t, 2000, table.prune(1500, 3000), "the age of those that are right comes next")
	require.Equal(t, 3, table.n)
	table.prune(2000, 3000)
	require.Zero(t, table.n)
}
