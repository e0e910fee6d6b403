package block

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A block that grows reads like one that was built in one go, and so do all that
// it was before, also when an extension was given up and another made.
func TestABlockGrowsBehindItsReaders(t *testing.T) {
	rnd := newRand(t)
	for range 40 {
		run := randomRun(rnd, 2+rnd.Intn(80), 1000, 5000)
		var grown Block
		var was []Block
		var places []Place
		for at := 0; at < len(run); {
			n := 1 + rnd.Intn(len(run)-at)
			part := blockOf(run[at:at+n], 999)
			if rnd.Intn(3) == 0 {
				given := randomRun(rnd, 1+rnd.Intn(5), run[at].counter, run[at].ms)
				up := blockOf(given, 0)
				_ = grown.Extend(&up)
			}
			places = append(places, Place{Counter: run[at].counter, Ms: run[at].ms, Offset: grown.Len()})
			if at > 0 && rnd.Intn(3) == 0 {
				grown = grown.Reserve()
			}
			before := grown
			if grown.Grow(&part) {
				inPlace := before.Upto(grown.Extent())
				requireRun(t, run[:at+n], &inPlace)
				requireEverySeek(t, run[:at+n], &inPlace)
				require.Equal(t, grown.HasIDs(), inPlace.HasIDs())
			} else {
				grown = grown.Extend(&part)
			}
			was = append(was, grown)
			at += n
		}
		for i := range was {
			b := &was[i]
			sofar := run[:b.Count]
			requireRun(t, sofar, b)
			requireEverySeek(t, sofar, b)
			require.Equal(t, uint64(999), b.Prev)
			whole := Merge(b)
			decoded, err := Decode(encoded(&whole, Zstd))
			require.NoError(t, err)
			requireRun(t, sofar, &decoded)
			requireEverySeek(t, sofar, &decoded)
			require.Equal(t, whole.Size(), b.Size())

			place := places[rnd.Intn(i+1)]
			rest := sofar[place.Counter-1000:]
			tail := b.From(place)
			requireRun(t, rest, &tail)
			requireEverySeek(t, rest, &tail)
			require.Equal(t, place.Counter-1, tail.Prev)
			if next := run[len(sofar):]; len(next) > 0 {
				more := blockOf(next, 0)
				tail = tail.Extend(&more)
				requireRun(t, run[place.Counter-1000:], &tail)
				requireEverySeek(t, run[place.Counter-1000:], &tail)
			}
		}
	}
}

// A reader of a block that grew reaches its end without decoding all of it.
func TestABlockThatGrewHasRestartPoints(t *testing.T) {
	run := evenRun(100, 1000)
	var grown Block
	for i := range run {
		part := blockOf(run[i:i+1], 0)
		grown = grown.Extend(&part)
	}
	big := blockOf(run, 0)
	require.InDelta(t, big.restarts(), grown.restarts(), 1)
	merged := Merge(&grown)
	require.Equal(t, grown.restarts(), merged.restarts())
	two := Merge(&big, func() *Block { b := blockOf(evenRun(200, 1000)[100:], 0); return &b }())
	require.GreaterOrEqual(t, two.restarts(), 2*big.restarts(), "points of what is merged are kept")
}

func TestCompactKeepsWhatItReturns(t *testing.T) {
	run := evenRun(10, 10)
	var b Builder
	b.Init(run[0].counter, 1<<16)
	for i := range run {
		b.Append(&run[i].r, run[i].ms)
	}
	blk := b.Finish(0)
	small := blk.Compact()
	require.LessOrEqual(t, cap(small.raw), 2*small.Size())
	clear(b.Memory())
	requireRun(t, run, &small)
	again := small.Compact()
	require.Same(t, &small.raw[0], &again.raw[0], "what is small enough stays where it is")
}
