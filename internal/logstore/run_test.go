package logstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// What the journal alone has takes about the bytes of its records: not the
// memory in which they were encoded, and not what an earlier, larger group of the
// shard took.
func TestSmallPartsKeepWhatTheyNeed(t *testing.T) {
	wholeParts(t)
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 50, Options{})
	for _, s := range ss {
		require.NoError(t, put(l, s, numbers(0, 1, 100_000)...)) // is a block
	}
	const groups = 200
	for i := range groups {
		var records []shardlog.Record
		for range ss {
			records = append(records, rec(fmt.Sprintf("%0100d", i)))
		}
		require.NoError(t, l.Append(ctx, records, ss, make([]shardlog.PutResult, len(ss))))
	}
	var bytes, memory int
	for _, s := range ss {
		v := s.view()
		require.Len(t, v.allParts(), groups)
		require.Zero(t, v.gaps)
		bytes += v.run.b.Len()
		memory += v.run.b.Memory() + cap(v.parts)*int(unsafe.Sizeof(partRef{}))
		require.Equal(t, v.run.b.Len(), v.gathered())
	}
	require.InDelta(t, len(ss)*groups*(4+100), bytes, float64(len(ss)*groups*9), "the records, with a time in front of some")
	require.Less(t, memory, 3*bytes, "with the list of parts, and room to grow")
	l.mu.Lock()
	defer l.mu.Unlock()
	require.LessOrEqual(t, len(l.spare.parts), 2*len(ss))
	kept := 0
	for _, p := range l.spare.parts {
		require.Nil(t, p.shard)
		require.True(t, p.block.IsZero())
		kept += cap(p.memory)
	}
	require.Equal(t, l.spare.bytes, kept)
	require.LessOrEqual(t, kept, spareTotal)
}

// The bounds hold whatever groups come, and a large group is not kept for ever.
func TestSparePartsAreBounded(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 400, Options{})
	check := func(atMost int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		kept := 0
		for _, p := range l.spare.parts {
			kept += cap(p.memory)
		}
		require.Equal(t, l.spare.bytes, kept)
		require.LessOrEqual(t, kept, spareTotal)
		require.LessOrEqual(t, len(l.spare.parts), atMost)
	}
	for size := 10; size <= 10_000; size *= 10 {
		var records []shardlog.Record
		for range ss {
			records = append(records, rec(strings.Repeat("x", size)))
		}
		require.NoError(t, l.Append(ctx, records, ss, make([]shardlog.PutResult, len(ss))))
		check(2 * len(ss))
	}
	rest(l) // the committer gives parts back after the writers know
	for range 200 {
		require.NoError(t, put(l, ss[0], "x"))
	}
	check(32)
	for _, s := range ss {
		require.Len(t, contents(t, s)[3], 10_000)
	}
}

// What the tail no longer has is not kept by the memory of a shard's list, also
// if nothing is written to the shard any more.
func TestEvictedBlocksAreNotKept(t *testing.T) {
	smallBlocks(t)
	const limit = 1 << 20
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 20, Options{TailBytes: limit})
	for range 16 {
		for _, s := range ss {
			require.NoError(t, put(l, s, numbers(0, 1, 20_000)...))
		}
	}
	kept := 0
	for _, s := range ss {
		v := s.view()
		if v.mem == nil {
			continue
		}
		require.LessOrEqual(t, v.cut, len(v.mem)/4)
		kept += (len(v.mem) + v.cut) * 20_000
	}
	for _, s := range ss {
		require.Empty(t, slices.DeleteFunc(s.pending.stored[:cap(s.pending.stored)], func(b storedBlock) bool { return b.m == nil }))
		require.Empty(t, slices.DeleteFunc(s.pending.parts[:cap(s.pending.parts)], func(p *part) bool { return p == nil }))
	}
	require.LessOrEqual(t, kept, limit+limit/4)
	require.Len(t, contents(t, ss[0]), 16)
}

// A part is removed as a whole and alone, wherever it is in a run, and what is left
// reads and continues as if the others had never been.
func TestTrimInsideARun(t *testing.T) {
	wholeParts(t)
	rnd := kvtest.Rand(t)
	for range 30 {
		store := kvtest.New(kv.NewMemory())
		l, ss := openOn(t, store, 2, Options{})
		s := ss[0]
		var want []string
		var ends []uint64
		bytes := int64(0)
		steps := 1 + rnd.Intn(30)
		for i := range steps {
			if rnd.Intn(8) == 0 { // a gap, and with it another run
				l.mu.Lock()
				s.next += uint64(1 + rnd.Intn(3))
				l.mu.Unlock()
			}
			data := numbers(i*10, i*10+1+rnd.Intn(5), 1+rnd.Intn(300))
			require.NoError(t, put(l, s, data...))
			require.NoError(t, put(l, ss[1], "of another shard"))
			want = append(want, data...)
			// One part more or, if the run had no memory for all of the call, two.
			last := s.view().last + 1
			for _, p := range s.view().allParts() {
				if p.end > last-uint64(len(data)) && p.end < last {
					ends = append(ends, p.end)
					break
				}
			}
			ends = append(ends, last)
			if rnd.Intn(3) > 0 {
				continue
			}
			upto := ends[rnd.Intn(len(ends))]
			require.NoError(t, s.Trim(ctx, upto))
			v := s.view()
			for i := range ends {
				if ends[i] == upto {
					ends = ends[i+1:]
					break
				}
			}
			left := int(v.after(v.horizon))
			want = want[len(want)-left:]
			requireContents(t, want, s)
			require.Len(t, v.allParts(), len(ends))
		}
		v := s.view()
		requireContents(t, want, s)
		s.ScanBlocks(func(end uint64, _, size int64) bool {
			require.Equal(t, ends[0], end)
			ends, bytes = ends[1:], bytes+size
			return true
		})
		require.Empty(t, ends)
		require.Equal(t, v.bytes, bytes)
		for _, p := range v.allParts() {
			_, m, ok := v.find(p.first())
			require.True(t, ok)
			it, err := m.b.Seek(p.first())
			require.NoError(t, err)
			require.Equal(t, p.first(), it.Counter())
			require.Equal(t, uint32(p.end-m.b.First), p.reach.Count)
			require.Equal(t, p.lastMs(), p.reach.LastMs)
			upto := m.b.Upto(p.reach)
			require.Equal(t, p.end, upto.End())
			last, err := upto.Seek(p.end)
			require.NoError(t, err)
			require.True(t, last.Done())
		}

		// What is left is stored, and found after a crash.
		_, ss2 := openOn(t, store, 2, Options{})
		requireContents(t, want, ss2[0])
		require.LessOrEqual(t, ss2[0].view().bytes, v.bytes, "parts are put together")
		require.NoError(t, put(l, s, numbers(0, 1, 100_000)...))
		requireContents(t, append(want, numbers(0, 1, 100_000)...), s)
		require.Empty(t, s.view().allParts())
	}
}

// wholeParts makes each append a part of its own.
func wholeParts(t *testing.T) {
	was := partBytes
	partBytes = 0
	t.Cleanup(func() { partBytes = was })
}

// smallBlocks has the records of an append stored as a block from directBytes on.
func smallBlocks(t *testing.T) {
	was := instantPart
	instantPart = directBytes
	t.Cleanup(func() { instantPart = was })
}

func requireContents(t *testing.T, want []string, s *Shard) {
	t.Helper()
	got := contents(t, s)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i], got[i])
	}
}

// Readers of older views see what they did while a run grows, is trimmed and
// stored.
func TestARunGrowsBehindItsReaders(t *testing.T) {
	wholeParts(t)
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
	s := ss[0]
	type seen struct {
		v    *view
		data []string
	}
	var old []seen
	var want []string
	for i := range 400 {
		data := numbers(i, i+1, 300)
		require.NoError(t, put(l, s, data...))
		want = append(want, data...)
		if i%37 == 0 {
			require.NoError(t, s.Trim(ctx, s.view().allParts()[0].end))
			want = want[len(want)-int(s.Info().Records):]
		}
		old = append(old, seen{s.view(), want})
	}
	require.Positive(t, s.Info().BlocksWritten)
	for _, o := range old {
		p, err := s.page(o.v, o.v.horizon, 1000, 1<<20)
		if err != nil {
			continue // what it refers to is a block that was removed
		}
		require.Len(t, p.Records, len(o.data))
		for i := range p.Records {
			require.Equal(t, o.data[i], string(p.Records[i].Data))
		}
	}
}

// Nearly all groups make a run grow without a new view, and what was acknowledged
// is seen anyway: the records, their number and bytes, and what a later
// version of a block has.
func TestARunGrowsWithoutNewViews(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	s := ss[0]
	views := map[*view]bool{}
	const n = 600
	for i := range n {
		r := rec(fmt.Sprint(i))
		if i >= n/2 {
			r.DedupID = fmt.Sprint("id-", i)
		}
		seq, err := l.AppendOne(ctx, s, &r)
		require.NoError(t, err)
		views[s.current.Load()] = true
		v := s.view()
		require.Equal(t, counterOf(seq), v.last)
		require.Equal(t, v.last, s.newest.last)
		require.Equal(t, v.lastMs, s.newest.lastMs)
		require.Equal(t, v.gathered(), s.newest.gathered)
		require.Equal(t, uint64(i+1), v.total)
		require.Equal(t, v.bytes, s.usage.Bytes.Load())
		require.Equal(t, i >= n/2, v.run.b.HasIDs())
		p, err := s.Read(ctx, shardlog.ReadRequest{From: shardlog.At(seq)})
		require.NoError(t, err)
		require.Len(t, p.Records, 1)
		require.Equal(t, r.DedupID, p.Records[0].DedupID)
	}
	require.Less(t, len(views), 30)
	_, again := openOn(t, store, 1, Options{})
	require.LessOrEqual(t, again[0].view().bytes, s.view().bytes, "parts are put together")
	require.Equal(t, contents(t, s), contents(t, again[0]))
}

// A commit that failed leaves a run as it was, also where the store applied it, and
// what follows it is in another run.
func TestARunAfterFailedCommits(t *testing.T) {
	for _, applied := range []bool{false, true} {
		for failAt := range 60 {
			store := &faulty{Store: kvtest.New(kv.NewMemory()), failAt: failAt, applied: applied, keepOpen: true}
			l, err := Open(store, Options{}, configs(2), Recovery{})
			if err != nil {
				continue
			}
			s := l.Shard(ID{1, 0})
			var want []string
			for i := range 40 {
				data := numbers(i*5, i*5+1+i%4, 200+1500*(i%7/5))
				if err := put(l, s, data...); err == nil {
					want = append(want, data...)
				} else {
					require.True(t, isInjected(err))
				}
				require.NoError(t, l.err)
			}
			requireContents(t, want, s)
			require.NoError(t, l.Close())
		}
	}
}
