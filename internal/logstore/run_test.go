package logstore

import (
	"fmt"
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
	l, ss := openOn(t, kv.NewMemory(), 50, Options{})
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
		v := s.view.Load()
		require.Len(t, v.parts, groups)
		require.Zero(t, v.gaps)
		bytes += v.run.b.Len()
		memory += v.run.b.Memory() + cap(v.parts)*int(unsafe.Sizeof(partRef{}))
		require.Equal(t, v.run.b.Len(), v.gathered())
	}
	require.InDelta(t, len(ss)*groups*(4+100), bytes, float64(len(ss)*groups*9), "the records, with a time in front of some")
	require.Less(t, memory, 2*bytes)
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
	l, ss := openOn(t, kv.NewMemory(), 400, Options{})
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
	const limit = 1 << 20
	l, ss := openOn(t, kv.NewMemory(), 20, Options{TailBytes: limit})
	for range 16 {
		for _, s := range ss {
			require.NoError(t, put(l, s, numbers(0, 1, 20_000)...))
		}
	}
	kept := 0
	for _, s := range ss {
		v := s.view.Load()
		if v.mem == nil {
			continue
		}
		require.LessOrEqual(t, v.cut, len(v.mem)/4)
		kept += (len(v.mem) + v.cut) * 20_000
	}
	require.LessOrEqual(t, kept, limit+limit/4)
	require.Len(t, contents(t, ss[0]), 16)
}

// A part is removed as a whole and alone, wherever it is in a run, and what is left
// reads and continues as if the others had never been.
func TestTrimInsideARun(t *testing.T) {
	rnd := kvtest.Rand(t)
	for range 30 {
		store := kv.NewMemory()
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
			ends = append(ends, s.view.Load().last+1)
			if rnd.Intn(3) > 0 {
				continue
			}
			upto := ends[rnd.Intn(len(ends))]
			require.NoError(t, s.Trim(ctx, upto))
			v := s.view.Load()
			for i := range ends {
				if ends[i] == upto {
					ends = ends[i+1:]
					break
				}
			}
			left := int(v.after(v.horizon))
			want = want[len(want)-left:]
			requireContents(t, want, s)
			require.Len(t, v.parts, len(ends))
		}
		v := s.view.Load()
		requireContents(t, want, s)
		s.ScanBlocks(func(end uint64, _, size int64) bool {
			require.Equal(t, ends[0], end)
			ends, bytes = ends[1:], bytes+size
			return true
		})
		require.Empty(t, ends)
		require.Equal(t, v.bytes, bytes)
		for i := range v.parts {
			p := &v.parts[i]
			_, m, ok := v.find(p.first())
			require.True(t, ok)
			it, err := m.b.Seek(p.first())
			require.NoError(t, err)
			require.Equal(t, p.first(), it.Counter())
			require.Equal(t, p.first() == m.b.First, p.offset == 0)
		}

		// What is left is stored, and found after a crash.
		_, ss2 := openOn(t, store, 2, Options{})
		requireContents(t, want, ss2[0])
		require.Equal(t, v.bytes, ss2[0].view.Load().bytes)
		require.NoError(t, put(l, s, numbers(0, 1, 100_000)...))
		requireContents(t, append(want, numbers(0, 1, 100_000)...), s)
		require.Empty(t, s.view.Load().parts)
	}
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
	l, ss := openOn(t, kv.NewMemory(), 1, Options{})
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
			require.NoError(t, s.Trim(ctx, s.view.Load().parts[0].end))
			want = want[len(want)-int(s.Info().Records):]
		}
		old = append(old, seen{s.view.Load(), want})
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

// A shard with few records keeps the values in use that have them, with all else
// that they hold. That has a bound of its own.
func TestTheJournalIsBoundedByWhatItStores(t *testing.T) {
	l, ss := openOn(t, kv.NewMemory(), 33, Options{})
	records := make([]shardlog.Record, len(ss))
	for i := range records {
		records[i] = rec(strings.Repeat("x", 7000))
	}
	records[0] = rec("few")
	most := int64(0)
	for range 400 {
		require.NoError(t, l.Append(ctx, records, ss, make([]shardlog.PutResult, len(ss))))
		require.NoError(t, l.Do(ctx, func(*Tx) error {
			most = max(most, l.slots.stored)
			sum := int64(0)
			for _, sl := range l.slots.used {
				sum += sl.bytes
			}
			require.Equal(t, sum, l.slots.stored)
			return nil
		}))
	}
	require.LessOrEqual(t, most, int64(maxJournalStored+1<<20))
	require.Len(t, contents(t, ss[0]), 400)
}
